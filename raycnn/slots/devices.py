"""The device that Ray gave to this worker, and whether its PyTorch can compute there. Asked before anything else is
done: Ray counts the cards that a driver shows, which need not fit the CUDA that PyTorch was built for."""

import re
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

MEND_CPU = "or write trainer.gpus_per_worker: 0 to train on CPUs"


class UnusableGpu(Exception):
    """The message says where, what does not fit, and the mend."""


def own_device(in_train: bool = True) -> Any:
    """The torch.device of this process, which is the current one from here on. in_train: it is a worker of Ray Train;
    else a plain actor, for which Ray has hidden all cards but its own. Raises UnusableGpu."""
    import ray
    import torch

    if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        return torch.device("cpu")  # also where there is a GPU: this process was not given it
    if not torch.cuda.is_available():
        raise UnusableGpu(_unusable())
    import ray.train.torch

    device = ray.train.torch.get_device() if in_train else torch.device("cuda", 0)
    torch.cuda.set_device(device)
    _refuse_foreign(device)
    return device


def refuse_unusable() -> None:
    """Raises UnusableGpu where some GPU of this process would be refused by `own_device`."""
    import torch

    if not torch.cuda.is_available():
        raise UnusableGpu(_unusable())
    for index in range(torch.cuda.device_count()):
        _refuse_foreign(torch.device("cuda", index))


def _refuse_foreign(device: Any) -> None:
    """Raises UnusableGpu where this PyTorch has no code for the card."""
    import torch

    capability = torch.cuda.get_device_capability(device)
    if torch.version.cuda and not runs_on(capability, torch.cuda.get_arch_list()):
        raise UnusableGpu(
            f"{_here()}: PyTorch {torch.__version__} has no code for {torch.cuda.get_device_name(device)}, of compute "
            f"capability {'.'.join(map(str, capability))}, only for {', '.join(torch.cuda.get_arch_list())}. "
            f"Install a PyTorch that is built for it, {MEND_CPU}."
        )


def runs_on(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether code for one of these (sm_75, compute_90, sm_90a) runs on a card of this compute capability.

    Binaries (sm) run on the same major version from their minor one on, PTX (compute) on all later cards, and what is
    for one architecture (a) there alone: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if found is None:
            return True  # not CUDA's names: nothing is known
        kind, major, minor, only = found[1], int(found[2]), int(found[3]), found[4]
        if (major, minor) == capability:
            return True
        same_major = major == capability[0] and minor <= capability[1]
        if only != "a" and (same_major or (kind == "compute" and not only and (major, minor) <= capability)):
            return True
    return not architectures


def driver() -> str:
    """NVIDIA's driver here and the newest CUDA that it serves, for people; says so where there is none."""
    try:
        import ray._private.thirdparty.pynvml as nvml  # pyright: ignore[reportMissingImports] Ray counts cards with it

        nvml.nvmlInit()
        version, cuda = nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetCudaDriverVersion()
        version = version.decode() if isinstance(version, bytes) else version
        return f"NVIDIA driver {version}, which serves CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
    except Exception:  # no such library, or any of its errors: then the program that comes with the driver
        return _driver_of_smi()


def _driver_of_smi() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "no NVIDIA driver"
    version = done.stdout.split()[:1] if done.returncode == 0 else []
    return f"NVIDIA driver {version[0]}" if version else "no NVIDIA driver"


def _unusable() -> str:
    import torch

    try:
        torch.cuda.init()
        why = "No CUDA GPUs are available"
    except Exception as error:  # torch raises several kinds, each with what CUDA said
        why = str(error).split(". ")[0].splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    cuda = torch.version.cuda
    mend = (
        f"Install a driver for CUDA {cuda}, or a PyTorch for the driver's CUDA"
        if cuda
        else "Install a PyTorch for CUDA"
    )
    return (
        f"{_here()}: Ray counts a GPU, but PyTorch {torch.__version__} ({f'for CUDA {cuda}' if cuda else 'for CPUs'}) "
        f"cannot use it: {why}; {driver()}. {mend}, {MEND_CPU}."
    )


def _here() -> str:
    return socket.gethostname()
