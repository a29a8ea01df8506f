import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn import models
from raycnn.spec.trial import Cutout, Mixup, Optimizer, Regularizers, Rotation, Sgd, TrialSpec
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, train

pytestmark = pytest.mark.slow


def last_record(spec: TrialSpec, data: TrainingData, **changes: Any) -> EpochRecord:
    records: list[EpochRecord] = []
    train(TrialSpec.model_validate(dict(spec) | changes), data, torch.device("cpu"), on_epoch=records.append)
    return records[-1]


def regularizers(strength: float) -> Regularizers:
    return Regularizers(
        cutout=Cutout(size_px=round(4 * strength)),
        mixup=Mixup(alpha=strength),
        rotation=Rotation(weight=strength),
        crop_px=1,
        label_smoothing=strength / 5,
    )


def test_compiled_trainings_give_the_same_numbers_and_new_hyperparameters_compile_nothing(
    spec: TrialSpec, data: TrainingData
):
    plain = last_record(spec, data, epochs=1, regularizers=regularizers(0.5))
    compiled = last_record(spec, data, epochs=1, regularizers=regularizers(0.5), compile=True)
    assert compiled.train_loss == pytest.approx(plain.train_loss, rel=1e-3)

    from torch._dynamo.utils import counters

    counters.clear()
    sgd = Optimizer(sgd=Sgd(lr=0.02, momentum=0.5, weight_decay=1e-3))
    last_record(spec, data, seed=9, regularizers=regularizers(0.9), optimizer=sgd, compile=True)
    assert counters["stats"]["unique_graphs"] <= 1  # the line that asks whether compiling works


def test_compile_without_a_compiler_is_refused_in_one_line(tmp_path: Path):
    program = """
import torch
from raycnn.errors import SpecError
from raycnn.training.compiling import compiled
try:
    compiled(torch.nn.Linear(1, 1), torch.device("cpu"))
except SpecError as error:
    print(error)
"""
    environment = {"PATH": "", "CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("compile: torch.compile does not work here (")
    assert run.stdout.endswith("Install a C++ compiler (g++), or set compile: false.\n")


@pytest.mark.parametrize("name", ["fastnet", "airbench94"])
def test_networks_that_end_in_a_maximum_have_finite_gradients_compiled_in_bf16(name: str):
    torch.manual_seed(0)
    network = models.build(name, 32)
    assert isinstance(network, torch.nn.Module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = torch.compile(network.features, dynamic=False)(torch.randn(16, 3, 32, 32))
    features.float().square().mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
