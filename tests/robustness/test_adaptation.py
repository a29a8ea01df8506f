"""Adapted batch norm: the statistics of the images that are scored, the model itself untouched."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycnn.errors import SpecError
from raycnn.robustness.adaptation import score_adapted
from raycnn.robustness.archives import CorruptionFile, open_corruptions

CPU = torch.device("cpu")


class Bright(nn.Module):
    """Class 1 for images that are brighter than the statistics of batch norm say is usual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        score = self.norm(images.float() / 255).mean(dim=(1, 2, 3))
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def file(tmp_path) -> CorruptionFile:
    """Four images, two of them 20 steps brighter than the others; each severity 40 steps brighter than the last."""
    levels = (40 * np.arange(5)[:, None] + np.array([0, 20, 0, 20])).ravel()
    images = np.broadcast_to(levels.reshape(-1, 1, 1, 1), (20, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile([0, 1, 0, 1], 5))
    return open_corruptions(tmp_path).files[0]


def test_each_severity_is_judged_by_its_own_statistics_and_the_model_keeps_its_own(file):
    model = Bright()
    before = copy.deepcopy(model.state_dict())
    scored = score_adapted({("m", 0): model}, file, np.array([0, 1, 0, 1]), CPU, "cifar-10-c-adapted")
    assert [(one.row.severity, one.row.adapted_errors, one.row.errors) for one in scored] == [
        (severity, 0, None) for severity in range(1, 6)
    ]
    assert {one.row.set for one in scored} == {"cifar-10-c-adapted"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_without_batch_norm_is_refused(file):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(SpecError, match="batch_norm_adapted: trial-001 has no batch norm"):
        score_adapted({("trial-001", 0): model}, file, np.zeros(4, int), CPU, "cifar-10-c-adapted")
