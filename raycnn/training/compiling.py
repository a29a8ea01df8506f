"""torch.compile for a step's forward and backward pass. Helps on GPUs; on processors it costs more than it gives."""

import torch
from torch import nn

from raycnn.errors import SpecError


def compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """`module`, compiled at its first call for the shapes of that call. A process compiles once for all trainings of
    the same network, shapes and heads, whatever their other hyperparameters.

    Raises SpecError where compiling cannot work: no C++ compiler for a processor, no Triton for a GPU.
    """
    try:  # a program of one line tells in seconds what the training would tell in the midst of a traceback
        torch.compile(lambda x: x + 1, dynamic=False)(torch.zeros(8, device=device))
    except Exception as error:
        needed = "a C++ compiler (g++)" if device.type == "cpu" else "Triton and a C compiler"
        reason = f"torch.compile does not work here ({type(error).__name__})"
        raise SpecError(f"compile: {reason}. Install {needed}, or set compile: false.") from error
    return torch.compile(module, dynamic=False)  # pyright: ignore[reportReturnType] a module of a module
