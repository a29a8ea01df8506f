"""A small workload whose tasks fail in every way; shipped to the workers by value."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from raycnn.slots.messages import Link, UnfitNode, Workload


def prepare(preparation: Any) -> Any:
    if preparation == "broken":
        raise ValueError("the data\nare gone")
    return preparation


def run(payload: dict[str, Any], state: Any, link: Link) -> None:
    """`steps` steps, each a collective and a report; goes on after the step that `directory` holds.

    fault: at which step, on which rank (None: all), how. "kill" and "full" happen once: a task that goes on
    finds their mark.
    """
    import ray.train.torch
    import torch
    import torch.distributed as dist

    directory = Path(payload["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    done = directory / "done"
    first = int(done.read_text()) + 1 if done.exists() else 0
    total = torch.zeros((), device=ray.train.torch.get_device())
    backend = dist.get_backend() if dist.is_initialized() else None
    for step in range(first, payload.get("steps", 5)):
        time.sleep(payload.get("step_s", 0.01))
        link.beat()
        fault = payload.get("fault")
        if fault and fault["at"] == step and fault["rank"] in (None, link.rank):
            _fail(fault["how"], directory)
        total += torch.rand(()).item()
        if backend is not None:
            dist.all_reduce(total)
        if link.rank == 0:
            done.write_text(str(step))
        link.report(step, {"total": float(total), "pid": os.getpid(), "state": state, "backend": backend})


def _fail(how: str, directory: Path) -> None:
    if how == "raise":
        raise RuntimeError("no such luck")
    if how == "full" and not (directory / "full").exists():
        (directory / "full").touch()
        raise UnfitNode("the disk is full")
    if how == "hang":
        time.sleep(3600)
    if how == "kill" and not (directory / "killed").exists():
        (directory / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


WORKLOAD = Workload(prepare, run)


def loop_whose_group_fails(config: dict[str, Any]) -> None:
    """In place of rank_loop: where the ranks would meet there is somebody else."""
    from raycnn.slots import group, rank

    def form(*_: Any) -> None:
        raise OSError(98, "Address already in use")

    group.form = form
    rank.rank_loop(config)


def loop_whose_last_rank_hangs(config: dict[str, Any]) -> None:
    """In place of rank_loop: the last rank never comes to the first all-reduce."""
    from raycnn.slots import group, rank

    original = group.form

    def form(device: Any, place: int, size: int, limit_s: float) -> None:
        if place == size - 1:
            time.sleep(3600)
        original(device, place, size, limit_s)

    group.form = form
    rank.rank_loop(config)


class LoopThatNoWorkerCanRead:
    """In place of rank_loop: as a module that is not installed on a worker's node."""

    __name__ = "loop"

    def __call__(self, config: dict[str, Any]) -> None:
        raise AssertionError("it was read")

    def __reduce__(self) -> Any:
        return _not_here, ()


def _not_here() -> None:
    raise ModuleNotFoundError("No module named 'elsewhere'")
