"""A GPU's memory among those who share it, simulated: there may be no GPU here."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raycnn.slots import gpu
from raycnn.slots.gpu import cap_memory, gpu_lost, gpu_share, out_of_memory


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (RuntimeError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True, False),
        (MemoryError(), True, False),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), False, True),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, False),
        (ValueError("out of memory, says the model"), False, False),
    ],
)
def test_missing_memory_and_lost_cards_are_told_from_a_programs_errors(error, memory, lost):
    assert (out_of_memory(error), gpu_lost(error)) == (memory, lost)


@pytest.mark.parametrize(("assigned", "share"), [({"GPU": 0.25}, 0.25), ({"GPU": 1.0}, 1.0), ({"CPU": 1.0}, 1.0)])
def test_a_process_is_kept_to_its_fraction_unless_it_runs_alone(monkeypatch, assigned, share):
    caps: list[float] = []
    context: Any = SimpleNamespace(get_assigned_resources=lambda: assigned)
    monkeypatch.setattr(gpu.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", caps.append)
    assert gpu_share() == share
    cap_memory(alone=False)
    cap_memory(alone=True)
    assert caps == ([share, 1.0] if share < 1 else [])
