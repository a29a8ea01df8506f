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
