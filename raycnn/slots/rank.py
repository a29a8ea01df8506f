"""What each worker of a slot runs: take a task, do it, say how it ended, take the next.

An idle rank waits on the hub and never in a collective, so that idling has no timeout. Every task starts from the same
state: nothing of the task before is left but warm memory.
"""

import contextlib
import ctypes
import functools
import gc
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from raycnn.slots.gpu import cap_memory, gpu_lost, out_of_memory, place_of_worker
from raycnn.slots.messages import (
    Assignment,
    Ended,
    Phase,
    Report,
    Status,
    StopTask,
    UnfitEverywhere,
    UnfitNode,
    Workload,
)
from raycnn.slots.reasons import reason_of

BEAT_S = 2.0


class BrokenGroup(Exception):
    """Leaves the loop with an error, on which Ray Train replaces the worker group."""


@dataclass(slots=True)
class _Place:
    """Where this rank stands, and its Link for the task at hand."""

    hub: Any
    slot: int
    generation: str
    rank: int
    size: int
    beaten: float = 0.0

    def says(self, phase: Phase) -> None:
        """How far this rank's start is."""
        self.hub.begins.remote(self.slot, self.generation, self.rank, phase)

    def report(self, step: int, content: Any) -> None:
        import torch

        stop = torch.zeros(1, device=_device())
        if self.rank == 0:
            stop[0] = ray.get(self.hub.report.remote(self.slot, self.generation, Report(step, content)))
        if self.size > 1:
            torch.distributed.broadcast(stop, 0)
        if stop.item():
            raise StopTask

    def beat(self) -> None:
        now = time.monotonic()
        if self.rank == 0 and now - self.beaten > BEAT_S:
            if not self.beaten:
                self.hub.first_step.remote(self.slot)
            self.beaten = now
            self.hub.beat.remote(self.slot, self.generation)


def rank_loop(config: dict[str, Any]) -> None:
    """The train function of a slot's TorchTrainer. config: hub, slot, workload, start_s."""
    hub, slot, workload = config["hub"], config["slot"], config["workload"]
    _end_with_raylet()
    try:
        place = _take_place(hub, slot)
        if place is None or not _start(place, config["start_s"]):
            return
        posted = ray.get(hub.prepared_with.remote())
        if posted is None:
            return
        place.says("preparing")
        try:
            state = workload.prepare(*posted)
        except Exception as error:  # told to the driver; Ray Train would only try again
            ray.get(hub.cannot_start.remote(slot, place.generation, reason_of(error), for_good=True))
            return
        gc.collect()
        gc.freeze()  # imports and data are never scanned again: gc.collect between tasks falls from 0.27 s to nothing
        last = 0
        while True:
            assignment: Assignment | None = ray.get(hub.next.remote(slot, place.generation, place.rank, last))
            if assignment is None:
                return
            last = assignment.key
            ended = _run(workload, assignment, state, place)
            if not ray.get(hub.end.remote(slot, place.generation, place.rank, ended)):
                raise BrokenGroup(ended.reason)
    except RayActorError:
        return  # the hub is gone, and with it the search


def _end_with_raylet() -> None:
    """Have this process end with its parent, its node's raylet: a rank that waits for an answer can outlive it long.
    Linux is asked for it too, for a call that holds Python's lock keeps a thread from watching."""
    if sys.platform == "linux":
        parent_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2); stays while this thread, the slot's own, is there
        with contextlib.suppress(AttributeError, OSError):  # a C library without it
            ctypes.CDLL(None).prctl(parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _take_place(hub: Any, slot: int) -> _Place | None:
    """Before anything that can fail or hang, so that the hub can say what did."""
    import ray.train

    from raycnn.slots.group import generation

    context = ray.train.get_context()
    place = _Place(hub, slot, generation(), context.get_world_rank(), context.get_world_size())
    worker = ray.get_runtime_context().current_actor
    joined = ray.get(
        hub.join.remote(slot, place.generation, place.rank, worker, socket.gethostname(), place_of_worker())
    )
    return place if joined else None


def _start(place: _Place, limit_s: float) -> bool:
    """The device and the process group; False where the slot cannot have them. Raises BrokenGroup where another worker
    group may fare better."""
    from raycnn.slots import devices, group

    cannot = functools.partial(place.hub.cannot_start.remote, place.slot, place.generation)
    try:
        device = devices.own_device()
        place.says("forming")
        group.form(device, place.rank, place.size, limit_s)
        place.says("formed")
    except devices.UnusableGpu as error:
        ray.get(cannot(str(error), for_good=True))
        return False
    except Exception as error:
        reason = f"rank {place.rank} of {place.size} on {socket.gethostname()}: {reason_of(error)}"
        ray.get(cannot(reason))
        raise BrokenGroup(reason) from error
    return True


def _run(workload: Workload, assignment: Assignment, state: Any, place: _Place) -> Ended:
    import torch

    place.beaten = 0.0
    _title(f"{assignment.task.name} rank {place.rank}")
    status: Status = "done"
    reason, at = "", 0.0
    try:
        torch.manual_seed(assignment.task.seed)  # for a user's code that draws from the global generator
        cap_memory(assignment.alone)
        workload.run(assignment.task.payload, state, place)
    except StopTask:
        status = "stopped"
    except UnfitNode as error:
        status, reason, at = "unfit", str(error), time.time()
    except UnfitEverywhere as error:
        status, reason, at = "unfit everywhere", str(error), time.time()
    except (Exception, SystemExit) as error:  # whatever a task raises fails that task, not the slot
        status = "unfit" if gpu_lost(error) else "out of memory" if out_of_memory(error) else "failed"
        reason, at = reason_of(error), time.time()
    collectives, usable = 0, True
    try:
        gc.collect()
        collectives = _collectives(place.size)
        if _device().type == "cuda":
            torch.cuda.synchronize()  # an error of its kernels may be known only now, and is for ever
            torch.cuda.empty_cache()
    except Exception as error:
        usable = False
        if status == "done":
            status, reason, at = "failed", reason_of(error), time.time()
    _title(f"slot-{place.slot} rank {place.rank} (idle)")
    return Ended(status, reason, collectives, at, usable)


def _collectives(size: int) -> int:
    import torch.distributed as dist

    return dist.group.WORLD._get_sequence_number_for_group() if size > 1 else 0  # pyright: ignore private, and the only count there is


def _device() -> Any:
    import ray.train.torch

    return ray.train.torch.get_device()


def _title(text: str) -> None:
    """The process's title: what the dashboard's node page, ps and nvidia-smi show. After each call of the actor (Ray
    Train polls it) Ray sets the title to the name of its class, so that name is changed too."""
    with contextlib.suppress(Exception):  # all of it is private to Ray, and only for the eye
        for actor in ray._private.worker.global_worker.actors.values():  # pyright: ignore private; there is one
            type(actor).__name__ = text
        ray._raylet.setproctitle(f"ray::{text}")  # pyright: ignore as Ray itself sets it
