"""The device of a worker, on cards and drivers that are not here."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train.torch
import torch

from raycnn.slots import devices

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # of torch 2.14 for CUDA 13.0


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with one card that torch can use. `given`: what Ray gave this worker of it; `capability`."""
    here = SimpleNamespace(given=["0"], capability=(9, 0), current=None)

    def set_device(device: torch.device) -> None:
        if device.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {device}")  # as torch does
        here.current = device

    context = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": here.given})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cuda:0" if here.given else "cpu"))
    for name, value in {
        "is_available": lambda: True,
        "set_device": set_device,
        "get_device_capability": lambda _: here.capability,
        "get_device_name": lambda _: "Tesla P100",
        "get_arch_list": lambda: WHEEL,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return here


def test_a_worker_without_a_gpu_trains_on_the_cpu_of_a_machine_that_has_one(card: Any):
    card.given = []
    assert devices.own_device() == torch.device("cpu")
    assert card.current is None


def test_a_worker_with_a_gpu_makes_it_the_current_one(card: Any):
    assert devices.own_device() == torch.device("cuda:0") == card.current


def test_a_card_that_pytorch_has_no_code_for_is_refused_with_both_and_the_mend(card: Any):
    card.capability = (6, 0)
    with pytest.raises(devices.UnusableGpu) as refused:
        devices.own_device()
    for part in ("Tesla P100", "compute capability 6.0", "sm_75", "Install a PyTorch", "gpus_per_worker: 0"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("error", "cuda", "parts"),
    [
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it."),
            "13.0",
            ["too old (found version 11040)", "NVIDIA driver 470.82", "for CUDA 13.0", "Install a driver"],
        ),
        (AssertionError("Torch not compiled with CUDA enabled"), None, ["for CPUs", "Install a PyTorch for CUDA"]),
    ],
    ids=["old driver", "CPU wheel"],
)
def test_a_card_that_pytorch_cannot_see_is_refused_with_driver_cuda_and_mend(
    card: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, cuda: str | None, parts: list[str]
):
    def init() -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(devices, "driver", lambda: "NVIDIA driver 470.82, which serves CUDA up to 11.4")
    with pytest.raises(devices.UnusableGpu) as refused:
        devices.own_device()
    for part in (*parts, "gpus_per_worker: 0"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 0), WHEEL, False),  # V100
        ((7, 5), WHEEL, True),
        ((8, 9), WHEEL, True),  # binaries of 8.0 and 8.6
        ((10, 3), WHEEL, True),
        ((11, 0), WHEEL, False),
        ((11, 0), [*WHEEL, "compute_90"], True),  # PTX is compiled there
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((9, 0), ["gfx942"], True),  # not NVIDIA's: nothing is known
        ((9, 0), [], True),
    ],
)
def test_what_code_runs_on_a_card(capability: tuple[int, int], architectures: list[str], runs: bool):
    assert devices.runs_on(capability, architectures) is runs
