"""The process group of a slot's workers.

Ray Train's own (TorchConfig) makes it in the worker group's start, where an error or a hang leaves a controller that
holds its resources and says nothing. Here the controller only tells the ranks where they meet, and they make it
themselves, once the hub knows them. The controller does not import torch: a quarter of a GB, and seconds of the start.
"""

import contextlib
import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from raycnn.slots import loopback
from raycnn.slots.interfaces import use_interface_of

LEAVE_S = 5.0
WORK_S = 1800.0  # for a collective of a task: rank 0 may wait long for whoever thinks about its report
_GENERATION = "RAYCNN_GROUP"


@dataclass
class Meeting(BackendConfig):
    """Where the ranks of a group meet. backend: what TorchTrainer asks for; each rank takes what suits its device."""

    backend: str = ""

    @property
    def backend_cls(self) -> type[Backend]:
        return _Meet

    @property
    def framework(self) -> Any:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend}


class _Meet(Backend):
    """In the controller."""

    share_cuda_visible_devices = True  # NCCL copies between the GPUs of a node only if its workers see them all

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        address, port = worker_group.execute_single(0, get_address_and_port)
        worker_group.execute(_hear, address, port, uuid.uuid4().hex)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        with contextlib.suppress(GetTimeoutError):  # Ray Train kills them next
            ray.get(worker_group.execute_async(abort), timeout=LEAVE_S)


def _hear(address: str, port: int, generation: str) -> None:
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port), _GENERATION: generation}


def generation() -> str:
    """The name of this process's worker group."""
    return os.environ[_GENERATION]


def form(device: Any, rank: int, size: int, limit_s: float) -> None:
    """Make the process group and do its first collective, on `device`: NCCL on GPUs, else gloo.

    Raises whatever torch does, also for what takes longer than limit_s: a rank that cannot be reached, sockets on an
    interface that leads nowhere, shared memory that is too small, GPUs that cannot reach each other.
    """
    import torch
    import torch.distributed as dist
    from ray.train.torch import config

    config._set_torch_distributed_env_vars()  # LOCAL_RANK and others, as users' code knows them
    timeout = timedelta(seconds=limit_s)
    if not loopback.on_loopback():
        use_interface_of(ray.util.get_node_ip_address())
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=_store(rank, size, timeout),
        rank=rank,
        world_size=size,
        timeout=timeout,
    )
    counted = torch.ones(1, device=device)
    # Sooner than the group's own limit, on which NCCL's watchdog ends the process without a word to us.
    work: Any = dist.all_reduce(counted, async_op=True)
    work.wait(0.9 * timeout)
    if counted.item() != size:
        raise RuntimeError(f"the first all-reduce of {size} ranks counted {counted.item():g}")
    set_timeout: Callable[[timedelta], None] = (
        getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout  # its name before torch 2.14
    )
    set_timeout(timedelta(seconds=WORK_S))


def _store(rank: int, size: int, timeout: timedelta) -> Any:
    from torch._C._distributed_c10d import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if loopback.on_loopback():
        return loopback.store(port, rank, size, timeout)
    return TCPStore(address, port, size, is_master=rank == 0, timeout=timeout)


def abort() -> None:
    """Give up NCCL's communicators, whatever runs on them: destroying them waits for their collectives, and so for
    ranks that may be gone, up to half a minute. Gloo's end with their process."""
    if "torch.distributed" not in sys.modules:
        return
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_backend() == "nccl":
        give_up = getattr(dist.distributed_c10d, "_abort_process_group", None)  # private: there is no other way
        if give_up is not None:
            give_up()
