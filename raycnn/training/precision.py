"""Which numbers a training, or a scoring, computes with."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from raycnn.errors import SpecError


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is "bf16" where the hardware multiplies it faster than fp32, else "fp32"; anything else is itself.

    A processor counts where it has AMX tiles or AVX-512 bf16 instructions; a GPU where it has bf16 units.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    else:
        fast = False
    return "bf16" if fast else "fp32"


@contextlib.contextmanager
def exact_fp32() -> Iterator[None]:
    """Within, fp32 is IEEE's, with 23 bits of fraction. Else cuDNN's convolutions, and products of matrices where the
    program has asked for it, take TF32 on GPUs since Ampere (10 bits), or bf16 on processors that have it (7 bits).

    Raises SpecError where what ran within has changed that.
    """
    backends: Any = torch.backends  # the stubs do not know what it has
    settings = (
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.cuda.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.rnn,
        backends.mkldnn.matmul,
    )
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        yield
        if any(setting.fp32_precision != "ieee" for setting in settings):
            raise SpecError(
                "a network has switched on TF32 or bf16 as it was run: what it gave is not fp32. Take that out."
            )
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a forward pass runs: bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
