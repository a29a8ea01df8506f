"""The same small network and images through other people's programs: the same numbers to 1e-4.

`scripts/peers` installs them; a test skips, and says so, where its program is not there.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_network import trained
from torch import Tensor, nn

from raycnn.robustness.attacks import EPSILONS, score_fgsm, score_pgd
from raycnn.robustness.evaluate import logits
from raycnn.robustness.external import Normalised
from raycnn.robustness.metrics import expected_calibration_error, rms_calibration_error
from raycnn.robustness.statistics import Comparison, corrected

pytestmark = pytest.mark.peers
CPU = torch.device("cpu")
CLOSE = 1e-4
STEPS = 4


def peer(name: str) -> Any:
    """A module of a package that scripts/peers installs."""
    return pytest.importorskip(name, reason=f"needs {name.partition('.')[0]}: scripts/peers installs it")


@pytest.fixture(scope="session")
def network(pictures) -> nn.Module:
    found = trained(0, pictures.train_images, pictures.train_labels)
    wrong = logits(Normalised(found, None, None), pictures.test_images, CPU).argmax(axis=1) != pictures.test_labels
    assert 0.2 < wrong.mean() < 0.8, "it is neither right nor wrong everywhere"
    return found


@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_errors_are_those_of_torchmetrics(network, pictures, bins):
    """torchmetrics counts a confidence on the border of two bins to the upper one; none lies there."""
    calibration = peer("torchmetrics.functional.classification").multiclass_calibration_error
    scores = logits(Normalised(network, None, None), pictures.test_images, CPU).astype(np.float64)
    for sharpness in (0.2, 1.0, 3.0):
        probabilities = torch.from_numpy(sharpness * scores).softmax(dim=1)
        for norm, ours in (("l1", expected_calibration_error), ("l2", rms_calibration_error)):
            labels = torch.from_numpy(pictures.test_labels.astype(np.int64))
            theirs = calibration(probabilities, labels, num_classes=10, n_bins=bins, norm=norm)
            assert theirs > 0.02
            assert ours(sharpness * scores, pictures.test_labels, bins) == pytest.approx(float(theirs), abs=CLOSE)


class Recorded(nn.Module):
    """A network that keeps the images that it predicts without being asked for a gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            self.images.append(images.clone())
        return self.network(images)


def _inputs(pictures: Any) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(pictures.test_images).permute(0, 3, 1, 2) / 255
    return images, torch.from_numpy(pictures.test_labels.astype(np.int64))


def _errors(network: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (network(images).argmax(dim=1) != labels).numpy()


def test_fgsm_is_that_of_torchattacks(network, pictures):
    fgsm = peer("torchattacks").FGSM
    ours = Recorded(network)
    batch = len(pictures.test_images)
    rows = score_fgsm({("x", 0): ours}, pictures.test_images, pictures.test_labels, CPU, batch_size=batch)
    images, labels = _inputs(pictures)
    for epsilon, scored, moved in zip(EPSILONS, rows, ours.images, strict=True):
        theirs = fgsm(network, eps=epsilon)(images, labels)
        torch.testing.assert_close(moved, theirs, atol=CLOSE, rtol=0)
        assert scored.row.error == pytest.approx(_errors(network, theirs, labels).mean(), abs=CLOSE)


def test_pgd_is_that_of_torchattacks_from_the_same_start(network, pictures, monkeypatch):
    """Theirs ends after its last step, and ours counts an error at any: theirs is run with 1, 2, … steps."""
    pgd = peer("torchattacks").PGD
    ours = Recorded(network)
    images, labels = _inputs(pictures)
    rows = score_pgd(
        {("x", 0): ours},
        pictures.test_images,
        pictures.test_labels,
        CPU,
        steps=STEPS,
        seed=3,
        batch_size=len(images),
    )
    noise = 2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(3)) - 1
    monkeypatch.setattr(Tensor, "uniform_", lambda start, low, high: start.copy_(high * noise))
    recorded = iter(ours.images)
    assert torch.equal(next(recorded), images)
    clean = _errors(network, images, labels)
    for epsilon, scored in zip(EPSILONS, rows, strict=True):
        wrong = clean.copy()
        for steps in range(1, STEPS + 1) if epsilon else ():
            theirs = pgd(network, eps=epsilon, alpha=2.5 * epsilon / STEPS, steps=steps)(images, labels)
            torch.testing.assert_close(next(recorded), theirs, atol=CLOSE, rtol=0)
            wrong |= _errors(network, theirs, labels)
        assert scored.row.error == pytest.approx(wrong.mean(), abs=CLOSE)
    assert next(recorded, None) is None


def test_holms_correction_is_that_of_statsmodels():
    multipletests = peer("statsmodels.stats.multitest").multipletests
    random = np.random.default_rng(0)
    blank = Comparison(0.0, 0.0, 0.0, 1.0, 1.0, (3, 3), 10)
    for count in (1, 2, 3, 10, 45):
        ps = random.random(count) ** 4
        ps[-1] = ps[0]  # equal ones too
        rejected, theirs, *_ = multipletests(ps, alpha=0.05, method="holm")
        ours = corrected([dataclasses.replace(blank, p=p) for p in ps])
        assert [one.holm for one in ours] == pytest.approx(theirs, abs=CLOSE)
        assert [one.differs for one in ours] == rejected.tolist()
