"""A data set that a network learns in seconds: noise, with the class written as the colour of a corner."""

import pytest
import torch

from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.loop import Images, TrainingData

CLASSES, SIDE = 3, 8


def labelled_images(count: int, seed: int) -> Images:
    """`count` images of SIDE px whose brightest channel tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    images = torch.randint(0, 160, (count, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    images[torch.arange(count), 2:6, 2:6, labels] = 250
    return Images(images.permute(0, 3, 1, 2), labels)


@pytest.fixture
def data() -> TrainingData:
    train, validation, corrupted = labelled_images(200, 0), labelled_images(50, 1), labelled_images(70, 2)
    return TrainingData(train, validation, corrupted, (0.35, 0.35, 0.35), (0.2, 0.2, 0.2), CLASSES)


@pytest.fixture
def spec() -> TrialSpec:
    """Two epochs of three steps; tests change what they are about with `model_copy(update=…)`."""
    optimizer = Optimizer(sgd=Sgd(lr=0.05))
    return TrialSpec(model="fastnet", epochs=2, batch_size=64, optimizer=optimizer, precision="fp32", seed=7)
