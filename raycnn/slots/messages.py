"""What the driver, the hub and the ranks tell each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Status = Literal["done", "stopped", "failed", "out of memory", "unfit", "unfit everywhere"]


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for a slot. A task submitted again under its name replaces the one before."""

    name: str  # shown as the title of the worker processes
    payload: Any
    seed: int = 0
    retries: int = 3  # deaths of a worker group that it survives


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task given to a slot; `key` differs for each attempt. alone: nothing else runs on its GPU meanwhile."""

    key: int
    task: Task
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Rank 0's message after each step of a task; `step` rises, a step that was seen before is not delivered again."""

    step: int
    content: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last message of a task: done, failed, or stopped; "stopped" with a reason: no slot can do any task."""

    status: Status
    reason: str = ""


Phase = Literal["joining", "starting", "forming", "formed", "preparing", "ready"]  # of a rank's start, in this order


@dataclass(frozen=True, slots=True)
class Ended:
    """How one rank left a task. `collectives`: how many it had issued; equal counts mean that none is left waiting.
    `usable`: whether this process can take another one; not after an error of CUDA's that stays."""

    status: Status
    reason: str
    collectives: int
    at: float  # seconds since the epoch
    usable: bool = True


class Link(Protocol):
    """How a running task speaks with the outside; the same calls on every rank, in the same order."""

    rank: int
    size: int

    def report(self, step: int, content: Any) -> None:
        """Tell the result of a step (rank 0's content counts); raises StopTask on all ranks if the task shall end."""

    def beat(self) -> None:
        """Say that there is progress. Costs nothing; call it often."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What a slot's workers do. Both functions must be importable where the workers run.

    prepare: takes the Preparation that the driver posts, once per worker, and gives the state that all tasks share.
    run: takes a task's payload, that state and a Link.
    """

    prepare: Callable[[Any], Any]
    run: Callable[[Any, Any, Link], None]


class StopTask(Exception):
    """Raised by Link.report on all ranks at the same step. Let it pass."""


class UnfitNode(Exception):
    """Raised by a task that its node cannot do and another can: the slot rests, and the task goes on elsewhere."""


class UnfitEverywhere(Exception):
    """Raised by a task that no node can do now, through no fault of its own, as where the disk that all share is full:
    all tasks stop, with the reason."""
