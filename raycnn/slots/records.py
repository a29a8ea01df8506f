"""What the hub knows of each task and of each slot."""

import time
from dataclasses import dataclass, field
from typing import Any

from raycnn.slots.messages import Ended, Outcome, Phase, Report, Task

SLOW_S = 45.0  # in one phase of a start, after which the user hears of it
GRACE_S = 30.0  # beyond what a rank is given to start, so that it can say itself what it waited for
PHASES: dict[Phase, str] = {
    "joining": "its process",
    "starting": "PyTorch and the GPU",
    "forming": "the process group and its first all-reduce",
    "preparing": "the data",
}  # what takes so long there; in the others it waits for the driver or for a task


@dataclass(eq=False)
class Ticket:
    """A submitted task."""

    task: Task
    messages: list[Report | Outcome] = field(default_factory=list)  # without the acknowledged ones
    acknowledged: int = 0  # messages that the submitter has seen and thought about
    over: bool = False  # its last message is an outcome
    step: int = -1
    attempts: int = 0
    alone: bool = False  # it ran out of memory, and is tried once more where nothing else runs
    place: str = ""  # where that was
    stop: bool = False
    seen: float = field(default_factory=time.monotonic)  # when its submitter last asked

    @property
    def sent(self) -> int:
        return self.acknowledged + len(self.messages)


@dataclass(eq=False)
class Slot:
    generation: str | None = None  # the worker group attached now; None: it is starting
    left: set[str] = field(default_factory=set)  # generations that must not come back
    phases: dict[int, tuple[Phase, float]] = field(default_factory=dict)  # rank -> how far its start is, and since when
    hosts: dict[int, str] = field(default_factory=dict)
    ready: bool = False  # all ranks of its last group were prepared
    failed: int = 0  # worker groups that did not get there since one did
    failure: str = ""  # why the last one did not, as its ranks or this hub know it
    slow: bool = False  # the user has heard that its group takes long to start
    served: int = 0  # tasks of this generation
    place: str = ""  # what its workers share memory with other slots' of: a GPU, else a node
    key: int = 0
    ticket: Ticket | None = None
    progress: float = 0.0
    workers: dict[int, Any] = field(default_factory=dict)  # rank -> its Train worker actor
    ended: dict[int, Ended] = field(default_factory=dict)
    retiring: bool = False
    hopeless: str = ""  # why it cannot start
    unfit: str = ""  # why its node cannot train
    rests_until: float = 0.0  # an unfit slot stays on its node, or the next one would come there, and takes no task

    def behind(self, now: float, size: int) -> tuple[str, Phase, float] | None:
        """Of a starting group the rank that is least far, for the others may be waiting for it: it and what it does, in
        words; its phase; for how many seconds. None while all wait for the driver or for a task."""
        order = list(PHASES)
        busy = [(order.index(phase), rank, since) for rank, (phase, since) in self.phases.items() if phase in PHASES]
        if not busy:
            return None
        index, rank, since = min(busy)
        where = f" on {self.hosts[rank]}" if rank in self.hosts else ""
        return f"rank {rank} of {size}{where}: {PHASES[order[index]]}", order[index], now - since
