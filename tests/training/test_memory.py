"""Batches that are too large for the device are halved, and no number changes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycnn.models import build
from raycnn.models.classifier import Classifier
from raycnn.robustness.attacks import score_fgsm, score_pgd
from raycnn.robustness.evaluate import logits
from raycnn.training.batches import Group, Images
from raycnn.training.evaluate import evaluate
from raycnn.training.memory import ByMemory

CPU = torch.device("cpu")


class Small(nn.Module):
    """A network whose device has memory for `room` images at once."""

    def __init__(self, room: int):
        super().__init__()
        torch.manual_seed(0)
        self.network = Classifier(build("fastnet", 32), 10, (0.5,) * 3, (0.25,) * 3, rotation=False)
        self.room = room
        self.sizes: list[int] = []
        self.kept: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.kept.append(any(one.requires_grad for one in self.network.parameters()))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return self.network(images)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, count)


def test_parts_are_halved_until_they_fit_and_what_failed_is_not_tried_again():
    tried = []

    def work(first: int, last: int) -> range:
        tried.append(last - first)
        if last - first > 12:
            raise torch.OutOfMemoryError
        return range(first, last)

    by_memory = ByMemory(50)
    assert [n for part in by_memory.parts(70, work) for n in part] == list(range(70))
    assert [n for part in by_memory.parts(30, work) for n in part] == list(range(30))
    assert tried == [50, 25, 12, 12, 12, 12, 12, 10, 12, 12, 6]


def test_one_image_that_does_not_fit_is_told():
    with pytest.raises(torch.OutOfMemoryError):
        logits(Small(0), pictures(4)[0], CPU)


def test_logits_are_those_of_whole_batches():
    images, _ = pictures(50)
    small = Small(7)
    found = logits(small, images, CPU, batch_size=25)
    assert max(small.sizes[3:]) <= 7
    np.testing.assert_allclose(found, logits(Small(100), images, CPU, batch_size=25), atol=1e-5)


@pytest.mark.parametrize("score", [score_fgsm, score_pgd])
def test_attacks_are_those_of_whole_batches_and_keep_no_gradients_of_parameters(score):
    images, labels = pictures(24)
    rows = {}
    for room in (5, 100):
        model = Small(room)
        rows[room] = score({("m", 0): model}, images, labels, CPU, epsilons=(0, 0.01), batch_size=12)
        assert not any(model.kept)
        assert all(one.requires_grad for one in model.network.parameters())
    for small, whole in zip(rows[5], rows[100], strict=True):
        np.testing.assert_array_equal(small.outcomes["wrong"], whole.outcomes["wrong"])


def test_the_evaluation_of_an_epoch_is_that_of_whole_batches():
    images, labels = pictures(60)
    held = Images(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    small, whole = (evaluate(Small(room), held, "fp32", Group()) for room in (9, 100))  # pyright: ignore[reportArgumentType]
    assert small[0] == whole[0]
    assert small[1] == pytest.approx(whole[1], rel=1e-6)
