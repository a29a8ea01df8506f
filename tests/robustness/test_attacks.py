"""FGSM on networks whose best attack is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycnn.models import build
from raycnn.models.classifier import Classifier
from raycnn.robustness.attacks import EPSILONS, score_fgsm
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
        assert (row.errors, row.value, row.n) == (wrong.sum(), wrong.mean(), 200)
    assert rows[0].errors == 0
    assert rows[-1].value > 0.3


def test_rows_name_their_epsilon_and_steps_stay_in_range():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    model = Linear(np.ones((3, 4, 4)))
    rows = score_fgsm({("m", 4): model}, images, np.ones(8, dtype=int), CPU, epsilons=(0, 8 / 255))
    assert [(row.model, row.seed, row.set, row.name, row.severity, row.metric) for row in rows] == [
        ("m", 4, "fgsm", "eps=0.0000", None, "error"),
        ("m", 4, "fgsm", "eps=0.0314", None, "error"),
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
    assert rows[0].errors == clean.errors == 0
    assert rows[-1].value > 0.5
