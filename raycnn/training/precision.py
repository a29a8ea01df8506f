"""Which numbers a training computes with."""

import torch


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


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a forward pass runs: bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
