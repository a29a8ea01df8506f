"""A network that cannot be captured as a CUDA graph, simulated on the processor: all of CUDA's calls are stand-ins."""

import contextlib
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from raycnn.spec.trial import TrialSpec
from raycnn.training import loop, steps
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, train
from raycnn.training.steps import GraphSteps


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """CUDA that refuses each capture, and what was asked of it."""
    asked: dict[str, Any] = {"captures": 0, "streams": [], "generators": 0}

    @contextlib.contextmanager
    def graph(*_: Any, **__: Any):
        asked["captures"] += 1
        if True:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        yield

    def fresh(*_: Any) -> None:
        asked["generators"] += 1

    for name in ("Stream", "Event", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock(return_value="the one before"))
    monkeypatch.setattr(torch.cuda, "set_stream", asked["streams"].append)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(steps, "_fresh_generator", fresh)
    monkeypatch.setattr(steps, "_NOT_CAPTURED", set())
    monkeypatch.setattr(GraphSteps, "_eagerly", eagerly)
    return asked


def eagerly(self: GraphSteps, first: bool) -> None:
    self._one(first)
    self.eager_steps += 1


def test_a_network_that_cannot_be_captured_trains_eagerly_and_says_so_once(
    spec: TrialSpec, data: TrainingData, monkeypatch: pytest.MonkeyPatch, refused: dict[str, Any]
):
    device = torch.device("cpu")
    eager: list[EpochRecord] = []
    small = spec.model_copy(update={"batch_size": 25})
    train(small, data, device, on_epoch=eager.append)
    notes: list[str] = []
    monkeypatch.setattr(loop, "steps_of", lambda training, _, note: GraphSteps(training, note))
    for _ in range(2):  # two trials of one process
        seen: list[EpochRecord] = []
        train(small, data, device, on_epoch=seen.append, note=notes.append)
        assert [r.train_loss for r in seen] == pytest.approx([r.train_loss for r in eager], rel=1e-4)
    (note,) = notes
    assert note.startswith("fastnet cannot be captured as a CUDA graph (RuntimeError: CUDA error: operation not")
    assert refused == {"captures": 1, "streams": ["the one before"], "generators": 1}
