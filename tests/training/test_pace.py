"""What is told of a training before it begins: how long a step takes, and how large its checkpoint will be."""

import time
from collections.abc import Iterator

import pytest
import torch

from raycnn.spec.trial import Adamw, Muon, Optimizer, Regularizers, Rotation, Sgd, TrialSpec
from raycnn.training.checkpoint import LAST
from raycnn.training.loop import train
from raycnn.training.pace import measure
from raycnn.training.size import checkpoint_bytes

CPU = torch.device("cpu")
OPTIMIZERS = {
    "sgd": Optimizer(sgd=Sgd(lr=0.01)),
    "sgd without momentum": Optimizer(sgd=Sgd(lr=0.01, momentum=0)),
    "adamw": Optimizer(adamw=Adamw(lr=1e-3)),
    "muon": Optimizer(muon=Muon(lr=1e-3)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_checkpoint_is_as_large_as_foretold(tmp_path, data, spec: TrialSpec, optimizer, ema_decay):
    regularizers = Regularizers(ema_decay=ema_decay, rotation=Rotation(weight=0.5, views=1))
    trial = spec.model_copy(update={"optimizer": optimizer, "regularizers": regularizers, "epochs": 1})
    train(trial, data, CPU, directory=tmp_path)
    foretold = checkpoint_bytes(trial, data.classes, data.train.images.shape[-1])
    assert foretold < (tmp_path / LAST).stat().st_size < 1.05 * foretold + 50_000


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several wait for each other where something else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_pace_is_that_of_a_training(data, spec: TrialSpec):
    """Within a factor that leaves room for whatever else runs on the machine."""
    pace = measure(spec, data.classes, data.train.images.shape[-1], CPU, limit_s=0.5)
    records = []
    train(spec.model_copy(update={"epochs": 8}), data, CPU, on_epoch=records.append)
    images = 3 * spec.batch_size
    real = sorted(record.train_s for record in records)[4] / images
    assert real / 4 < pace.train_s < real * 4
    assert pace.evaluate_s < pace.train_s


@pytest.mark.usefixtures("one_thread")
def test_a_batch_that_would_take_long_is_timed_by_a_smaller_one(spec: TrialSpec):
    began = time.monotonic()
    pace = measure(spec.model_copy(update={"model": "resnet20", "batch_size": 100_000}), 10, 32, CPU, limit_s=0.5)
    assert time.monotonic() - began < 20
    assert pace.steps >= 2
