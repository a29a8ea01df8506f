"""FGSM on networks whose best attack is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycnn.models import build
from raycnn.models.classifier import Classifier
from raycnn.robustness.attacks import EPSILONS, score_fgsm, score_pgd
from raycnn.robustness.evaluate import score_clean

CPU = torch.device("cpu")


class Linear(nn.Module):
    """Class 1 where the weighted sum of the pixels exceeds 0; takes stored or float images."""

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        score = (images * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([-score, score], dim=1)


def test_error_of_a_linear_model_is_that_of_its_worst_case_in_the_box():
    random = np.random.default_rng(0)
    weights = random.normal(size=(3, 4, 4))
    images = random.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    pixels = images.transpose(0, 3, 1, 2) / 255
    labels = ((pixels * weights).sum(axis=(1, 2, 3)) > 0).astype(np.int64)
    rows = score_fgsm({("m", 0): Linear(weights)}, images, labels, CPU, batch_size=64)
    for row, epsilon in zip(rows, EPSILONS, strict=True):
        towards = np.where(labels[:, None, None, None] == 1, -np.sign(weights), np.sign(weights))
        worst = np.clip(pixels + epsilon * towards, 0, 1)
        wrong = ((worst * weights).sum(axis=(1, 2, 3)) > 0) != labels
        assert (row.row.errors, row.row.n) == (wrong.sum(), 200)
        np.testing.assert_array_equal(row.outcomes["wrong"], wrong)
    assert rows[0].row.errors == 0
    assert rows[-1].outcomes["wrong"].mean() > 0.3


def test_rows_name_their_epsilon_and_steps_stay_in_range():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    model = Linear(np.ones((3, 4, 4)))
    rows = score_fgsm({("m", 4): model}, images, np.ones(8, dtype=int), CPU, epsilons=(0, 8 / 255))
    assert [(*one.row.key, one.row.set, one.row.name, one.row.severity) for one in rows] == [
        ("m", 4, "fgsm", "eps=0.0000", None),
        ("m", 4, "fgsm", "eps=0.0314", None),
    ]
    pixels = torch.tensor(images.transpose(0, 3, 1, 2) / 255, dtype=torch.float32)
    assert model.seen.min() >= 0
    torch.testing.assert_close(model.seen, (pixels - 8 / 255).clamp(0, 1))
    assert model.weights.grad is None


@pytest.mark.parametrize("rotation", [False, True])
def test_a_network_fares_at_epsilon_0_as_on_clean_images_and_worse_beyond(rotation):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(build("fastnet", 32), 10, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), rotation)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        labels = model.eval()(torch.tensor(images.transpose(0, 3, 1, 2).copy())).argmax(dim=1).numpy()
    clean = score_clean({("m", 0): model}, images, labels, CPU)[0]
    rows = score_fgsm({("m", 0): model}, images, labels, CPU)
    assert rows[0].row.errors == clean.row.errors == 0
    assert rows[-1].outcomes["wrong"].mean() > 0.5


def _linear_case() -> tuple[Linear, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    weights = random.normal(size=(3, 4, 4))
    images = random.integers(0, 256, (150, 4, 4, 3), dtype=np.uint8)
    pixels = images.transpose(0, 3, 1, 2) / 255
    return Linear(weights), images, pixels, ((pixels * weights).sum(axis=(1, 2, 3)) > 0).astype(np.int64)


def test_pgd_finds_the_worst_case_of_a_linear_model_within_the_box():
    model, images, pixels, labels = _linear_case()
    weights = model.weights.detach().numpy()
    scored = score_pgd({("m", 0): model}, images, labels, CPU, steps=5, seed=3, batch_size=64)
    for one, epsilon in zip(scored, EPSILONS, strict=True):
        towards = np.where(labels[:, None, None, None] == 1, -np.sign(weights), np.sign(weights))
        worst = np.clip(pixels + epsilon * towards, 0, 1)
        wrong = ((worst * weights).sum(axis=(1, 2, 3)) > 0) != labels
        np.testing.assert_array_equal(one.outcomes["wrong"], wrong)
        assert (one.row.set, one.row.name, one.row.errors) == ("pgd", f"eps={epsilon:.4f}", wrong.sum())
    # The last images that the model saw were within the largest epsilon, and in range.
    moved, clean = model.seen.numpy(), pixels[-len(model.seen) :]
    assert np.abs(moved - clean).max() <= EPSILONS[-1] + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_more_steps_fool_a_network_at_least_as_often_as_one_and_the_start_follows_the_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(build("fastnet", 32), 10, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), False)
    images = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        labels = model.eval()(torch.tensor(images.transpose(0, 3, 1, 2).copy())).argmax(dim=1).numpy()
    models, epsilons = {("m", 0): model}, (0.0, 0.02)
    fgsm = score_fgsm(models, images, labels, CPU, epsilons)
    pgd = score_pgd(models, images, labels, CPU, epsilons, steps=10, seed=1)
    assert pgd[0].row.errors == 0
    assert (pgd[1].row.errors or 0) >= (fgsm[1].row.errors or 0) > 0
    again = score_pgd(models, images, labels, CPU, epsilons, steps=10, seed=1)
    np.testing.assert_array_equal(pgd[1].outcomes["wrong"], again[1].outcomes["wrong"])


def test_own_networks_are_attacked_in_their_memory_format():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    seen: list[bool] = []
    model = Classifier(build("fastnet", 32), 10, (0.5,) * 3, (0.25,) * 3, rotation=False)
    model.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    score_pgd({("m", 0): model}, images, np.zeros(4, dtype=int), CPU, steps=2)
    assert all(seen)
