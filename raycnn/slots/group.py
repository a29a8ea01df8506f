"""The process group of a slot's workers, as Ray Train's TorchConfig makes it, but without torch in the slot's
controller, which has no use for it: a quarter of a GB, and seconds of the start."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from raycnn.slots import loopback

LEAVE_S = 30.0


@dataclass
class ProcessGroup(BackendConfig):
    """on_loopback: the cluster is this machine alone. backend: "nccl" or "gloo"; empty: as TorchTrainer decides."""

    on_loopback: bool
    backend: str = ""

    @property
    def backend_cls(self) -> type[Backend]:
        return _TorchBackend

    @property
    def train_func_context(self) -> Any:
        return _on_own_device

    @property
    def framework(self) -> Any:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend}


class _TorchBackend(Backend):
    """In the controller."""

    share_cuda_visible_devices = True  # NCCL copies between the GPUs of a node only if its workers see them all

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        address, port = worker_group.execute_single(0, get_address_and_port)
        joined = [
            worker_group.execute_single_async(rank, _join, backend_config, address, port, rank, len(worker_group))
            for rank in range(len(worker_group))
        ]
        ray.get(joined)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        with contextlib.suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(_leave, len(worker_group)), timeout=LEAVE_S)


def _join(group: ProcessGroup, address: str, port: int, rank: int, size: int) -> None:
    from ray.train.torch import config

    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    config._set_torch_distributed_env_vars()
    if group.on_loopback:
        loopback.meet_here()
    config._setup_torch_process_group(group.backend, rank, size, init_method="env://")


def _leave(size: int) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=size > 1)


@contextlib.contextmanager
def _on_own_device() -> Iterator[None]:
    import ray.train.torch
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(ray.train.torch.get_device())
    yield
