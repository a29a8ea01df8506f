"""On a GPU the captured step is held to the eager one, and both to the processor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn.spec.trial import Adamw, Cutmix, Cutout, Mixup, Optimizer, Regularizers, Rotation, Sgd, TrialSpec
from raycnn.training import loop
from raycnn.training.batches import Images
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, train
from raycnn.training.steps import EagerSteps, GraphSteps, Training

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
EVERYTHING = Regularizers(
    cutout=Cutout(size_px=2),
    mixup=Mixup(alpha=0.3),
    cutmix=Cutmix(),
    rotation=Rotation(weight=0.3),
    crop_px=1,
    label_smoothing=0.1,
    ema_decay=0.9,
)
SGD, ADAMW = Optimizer(sgd=Sgd(lr=0.01)), Optimizer(adamw=Adamw(lr=0.001))


class Stop(Exception):
    pass


def on(device: str, data: TrainingData) -> TrainingData:
    def moved(part: Images) -> Images:
        return Images(part.images.to(device), part.labels.to(device))

    corrupted = None if data.corrupted is None else moved(data.corrupted)
    return replace(data, train=moved(data.train), validation=moved(data.validation), corrupted=corrupted)


def records(spec: TrialSpec, data: TrainingData, **options: Any) -> list[EpochRecord]:
    seen: list[EpochRecord] = []
    train(spec, data, data.train.images.device, on_epoch=seen.append, **options)
    return seen


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision is not shortened to TF32, so that devices can be compared."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture
def small(spec: TrialSpec) -> TrialSpec:
    return spec.model_copy(update={"epochs": 4, "batch_size": 25, "precision": "fp32", "regularizers": EVERYTHING})


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
def test_captured_steps_are_those_of_eager_steps_and_of_the_processor(
    small: TrialSpec, data: TrainingData, optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
):
    spec = small.model_copy(update={"optimizer": optimizer})
    used: list[type] = []

    def watched(make: Callable[[Training], Any]) -> Callable[[Training, int], Any]:
        def steps(training: Training, ranks: int) -> Any:
            used.append(type(made := make(training)))
            return made

        return steps

    monkeypatch.setattr(loop, "steps_of", watched(GraphSteps))
    captured = records(spec, on("cuda", data))
    monkeypatch.setattr(loop, "steps_of", watched(EagerSteps))
    eager = records(spec, on("cuda", data))
    processor = records(spec, data)
    assert used == [GraphSteps, EagerSteps, EagerSteps]
    for a, b, c in zip(captured, eager, processor, strict=True):
        assert a.lr == b.lr == c.lr
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-3)
        assert a.train_loss == pytest.approx(c.train_loss, rel=1e-2)
        assert a.metrics["val/clean_loss"] == pytest.approx(b.metrics["val/clean_loss"], rel=2e-2)
        assert a.metrics["val/clean_loss"] == pytest.approx(c.metrics["val/clean_loss"], rel=5e-2)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
def test_a_training_goes_on_from_a_checkpoint_of_either_device(
    small: TrialSpec, data: TrainingData, optimizer: Optimizer, tmp_path: Path
):
    spec = small.model_copy(update={"optimizer": optimizer})
    whole = records(spec, on("cuda", data))

    def stop_after_two(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise Stop

    for first, second in (("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")):
        there, directory = on(first, data), tmp_path / f"{first}-{second}"
        with pytest.raises(Stop):
            train(spec, there, there.train.images.device, directory=directory, checkpoint_s=0, on_epoch=stop_after_two)
        rest = records(spec, on(second, data), directory=directory)
        assert [record.epoch for record in rest] == [2, 3, 4]
        assert rest[-1].train_loss == pytest.approx(whole[-1].train_loss, rel=2e-2)


def test_trainings_of_different_shapes_follow_one_another(small: TrialSpec, data: TrainingData):
    there, plain = on("cuda", data), small.model_copy(update={"regularizers": Regularizers(crop_px=1)})
    first, between, again = (records(spec, there)[-1] for spec in (small, plain, small))
    assert again.train_loss == pytest.approx(first.train_loss, rel=1e-3)
    assert between.train_loss < first.train_loss


def test_deterministic_trainings_are_the_same_bit_for_bit(small: TrialSpec, data: TrainingData):
    spec = small.model_copy(update={"deterministic": True, "precision": "bf16"})
    there = on("cuda", data)
    try:
        first, second = (train(spec, there, torch.device("cuda")).state_dict() for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)
