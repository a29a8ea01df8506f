"""What the hub knows of each task and of each slot."""

import time
from dataclasses import dataclass, field
from typing import Any

from raycnn.slots.messages import Ended, Outcome, Phase, Report, Task

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

    def late(self, now: float, size: int, start_s: float, hang_s: float) -> str:
        """Which rank of a starting group takes too long, and over what; empty if none does. The one that is least far:
        the others may be waiting for it."""
        order = list(PHASES)
        busy = [(order.index(phase), rank, since) for rank, (phase, since) in self.phases.items() if phase in PHASES]
        for index, rank, since in sorted(busy):
            phase = order[index]
            limit_s = hang_s if phase == "preparing" else start_s + GRACE_S
            if now - since > limit_s:
                where = f" on {self.hosts[rank]}" if rank in self.hosts else ""
                return f"rank {rank} of {size}{where}: {PHASES[phase]} took more than {limit_s:g} s"
        return ""
