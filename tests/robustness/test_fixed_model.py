"""A network trained here errs on our corruptions and flips on our perturbations as often as on the authors'."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raycnn.models.classifier import Classifier
from raycnn.robustness.archives import open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from raycnn.robustness.evaluate import logits
from raycnn.robustness.metrics import flips, is_noise
from raycnn.robustness.perturbations import PERTURBATIONS, perturb
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.batches import Images
from raycnn.training.loop import TrainingData, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(reference) -> dict[str, np.ndarray]:
    with np.load(reference("cifar10_lossless.npz")) as file:
        return {name: file[name] for name in ("train_images", "train_labels", "test_images", "test_labels")}


@pytest.fixture(scope="module")
def model(data) -> Classifier:
    """FastNet after six epochs of 8,068 images: seconds, and about half of the test images right."""
    pixels = torch.from_numpy(data["train_images"]).permute(0, 3, 1, 2)
    images = Images(pixels, torch.from_numpy(data["train_labels"].astype(np.int64)))
    spec = TrialSpec(model="fastnet", epochs=6, batch_size=128, optimizer=Optimizer(sgd=Sgd(lr=0.1)), precision="fp32")
    mean, std = (0.491, 0.482, 0.447), (0.247, 0.244, 0.262)
    return train(spec, TrainingData(images, images, None, mean, std, 10), CPU)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether means over images agree within sampling error; images are paired, with random numbers of their own."""
    gap = ours - theirs
    return abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(len(gap)) + 0.5 / len(gap)


def test_the_network_has_learned_something(data, model):
    error = (logits(model, data["test_images"], CPU).argmax(axis=1) != data["test_labels"]).mean()
    assert 0.2 < error < 0.6


# Frost has ice of its own making here.
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "frost"])
def test_errors_on_corruptions_are_those_on_the_authors_images(reference: Callable[[str], Path], data, model, name):
    archive = open_corruptions(reference("cifar-10-c-128"))
    file = archive.files[CORRUPTIONS.index(name)]
    clean = data["test_images"][: file.n]
    wrong = np.stack(
        [
            [
                logits(model, images, CPU).argmax(axis=1) != archive.labels
                for images in (corrupt(clean, name, s, 11), of_s)
            ]
            for s, of_s in zip(SEVERITIES, file.images(), strict=True)
        ]
    )
    assert _alike(*wrong.mean(axis=0))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_flips_on_perturbations_are_those_on_the_authors_videos(reference, data, model, name):
    file = open_perturbations(reference("cifar-10-p-32")).files[PERTURBATIONS.index(name)]
    ours, theirs = (
        flips(
            logits(model, videos.reshape(-1, 32, 32, 3), CPU).reshape(file.n, file.frames, -1).argmax(-1),
            is_noise(name),
        )
        for videos in (perturb(data["test_images"][: file.n], name, 11), file.videos())
    )
    assert _alike(ours, theirs)
