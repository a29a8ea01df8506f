"""What `shapes` is for: learned in a minute, not perfectly, and worse on corrupted pictures."""

import numpy as np
import pytest
import torch

from raycnn.data import shapes
from raycnn.robustness.corruptions import VALIDATION_CORRUPTIONS, corrupt
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.batches import Images
from raycnn.training.loop import TrainingData, train


@pytest.fixture
def one_thread():
    """What a trial has on a small machine, and quicker than two threads that share a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_small_network_learns_shapes_in_eight_epochs_but_not_perfectly():
    pictures, held_out = shapes.generate(4000, seed=0, split=0), shapes.generate(500, seed=0, split=1)
    corrupted = np.concatenate([corrupt(held_out[0], name, 3, seed=0) for name in VALIDATION_CORRUPTIONS])
    data = TrainingData(
        train=_images(*pictures),
        validation=_images(*held_out),
        corrupted=_images(corrupted, np.tile(held_out[1], len(VALIDATION_CORRUPTIONS))),
        mean=tuple(pictures[0].mean((0, 1, 2)) / 255),
        std=tuple(pictures[0].std((0, 1, 2)) / 255),
        classes=10,
    )
    sgd = Optimizer(sgd=Sgd(lr=0.1, momentum=0.9, weight_decay=5e-4))
    spec = TrialSpec(model="fastnet", epochs=8, batch_size=64, optimizer=sgd, precision="fp32")
    records = []
    train(spec, data, torch.device("cpu"), on_epoch=records.append)
    last = records[-1].metrics
    print(f"{sum(record.train_s for record in records):.0f} s, {last}")
    assert 0.05 < last["val/clean_error"] < 0.25
    assert last["val/corruption_error"] > 1.3 * last["val/clean_error"]


def _images(images: np.ndarray, labels: np.ndarray) -> Images:
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return Images(tensor, torch.from_numpy(labels))
