"""The hub: one asyncio actor that is the mailbox of all slots.

It outlives worker groups, and the driver's job owns it. A slot's worker group is known by its `generation`; ranks of an
older one are told to leave. All state changes happen under one condition, which wakes everybody who waits.
"""

import asyncio
import collections
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from raycnn.slots.messages import Assignment, Ended, Outcome, Report, Task

START_S = 20.0  # how long a starting slot makes others wait at most; it may be waiting for resources
POLL_S = 5.0  # longest silence of a long poll
REST_S = 60.0  # how long a slot takes no task whose node could not train
PEERS_S = 2.0  # how long the ranks of a group may differ in leaving a task before a missing one is looked after


@dataclass(eq=False)
class _Ticket:
    """A submitted task."""

    task: Task
    messages: list[Report | Outcome] = field(default_factory=list)  # without the acknowledged ones
    acknowledged: int = 0  # messages that the submitter has seen and thought about
    over: bool = False  # its last message is an outcome
    step: int = -1
    attempts: int = 0
    stop: bool = False
    seen: float = field(default_factory=time.monotonic)  # when its submitter last asked

    @property
    def sent(self) -> int:
        return self.acknowledged + len(self.messages)


@dataclass(eq=False)
class _Slot:
    generation: str | None = None  # the worker group attached now; None: it is starting
    left: set[str] = field(default_factory=set)  # generations that must not come back
    starts: int = 0  # worker groups started since one was last prepared
    served: int = 0  # tasks of this generation
    key: int = 0
    ticket: _Ticket | None = None
    progress: float = 0.0
    workers: dict[int, Any] = field(default_factory=dict)  # rank -> its Train worker actor
    ended: dict[int, Ended] = field(default_factory=dict)
    retiring: bool = False
    unprepared: str = ""  # why its workers cannot prepare
    unfit: str = ""  # why its node cannot train
    rests_until: float = 0.0  # an unfit slot stays on its node, or the next one would come there, and takes no task


class Hub:
    """See the module. `size`: ranks per slot; the other limits are those of spec.Trainer."""

    def __init__(self, size: int, hang_s: float, recycle_after: int | None, lease_s: float = 60.0, max_starts: int = 4):
        self.size, self.hang_s, self.lease_s, self.max_starts = size, hang_s, lease_s, max_starts
        self.recycle_after = recycle_after or float("inf")
        self.slots: dict[int, _Slot] = {}
        self.tickets: dict[int, _Ticket] = {}
        self.queue: collections.deque[_Ticket] = collections.deque()
        self.submitted, self.keys, self.closed = 0, 0, False
        self.lost = ""  # why there is no slot left
        self.news: list[str] = []
        self.preparation: tuple[Any] | None = None
        self.changed = asyncio.Condition()
        self.log: list[tuple[float, int, str, str]] = []  # (time, slot, event, task) for benches and post-mortems

    # ---------------------------------------------------------------- submitters
    async def submit(self, task: Task) -> int:
        """A ticket number to pull messages with."""
        async with self.changed:
            for old in self.tickets.values():
                if old.task.name == task.name and not old.over:
                    self._stop(old)
            ticket = _Ticket(task)
            number, self.submitted = self.submitted, self.submitted + 1
            self.tickets[number] = ticket
            self.queue.append(ticket)
            if self.closed:
                self._finish(ticket, Outcome("stopped", "the slots are closing"))
            elif self.lost:
                self._finish(ticket, Outcome("stopped", self.lost))
            self._dispatch()
            return number

    async def pull(self, number: int, cursor: int) -> list[Report | Outcome]:
        """Messages from `cursor` on, at once or when one comes (at most POLL_S); acknowledges those before."""
        async with self.changed:
            ticket = self.tickets.get(number)
            if ticket is None:  # its submitter was silent too long, as on a laptop that slept
                return [Outcome("stopped", f"its submitter was silent for more than {self.lease_s:g} s")]
            del ticket.messages[: cursor - ticket.acknowledged]  # nobody asks for them again
            ticket.acknowledged, ticket.seen = cursor, float("inf")  # somebody is there, however slow the machine
            self.changed.notify_all()
            await self._wait(lambda: ticket.messages, POLL_S)
            ticket.seen = time.monotonic()
            return list(ticket.messages)

    async def stay(self, number: int) -> None:
        """The submitter is still there."""
        if ticket := self.tickets.get(number):
            ticket.seen = max(ticket.seen, time.monotonic())

    async def stop(self, number: int) -> None:
        async with self.changed:
            if ticket := self.tickets.get(number):
                self._stop(ticket)

    # ---------------------------------------------------------------- ranks
    async def join(self, slot: int, generation: str, rank: int, worker: Any) -> bool:
        """Called by each rank of a new worker group; False: leave."""
        async with self.changed:
            s = self.slots.get(slot)
            if s is None or generation in s.left or self.closed or s.retiring:
                return False
            if s.generation != generation:
                self._attach(slot, s, generation)
            s.workers[rank] = worker
            return s.starts <= self.max_starts

    async def prepared_with(self) -> tuple[Any] | None:
        """What the driver posted for `Workload.prepare`; waits for it. None: the slots close before."""
        async with self.changed:
            await self._wait(lambda: self.preparation is not None or self.closed)
            return self.preparation

    async def cannot_prepare(self, slot: int, reason: str) -> None:
        """A rank's `prepare` raised: another group would fare no better, the slot leaves."""
        async with self.changed:
            s = self.slots[slot]
            s.unprepared, s.retiring = s.unprepared or reason, True
            self.changed.notify_all()

    async def next(self, slot: int, generation: str, last: int) -> Assignment | None:
        """The assignment after `last`; waits for it. None: leave."""
        async with self.changed:
            s = self.slots[slot]
            if s.starts:
                self._note(slot, "ready")
            s.starts = 0
            await self._wait(
                lambda: s.generation != generation or (s.ticket and s.key > last) or self.closed or s.retiring
            )
            if s.generation != generation or not s.ticket:
                return None
            return Assignment(s.key, s.ticket.task)

    async def report(self, slot: int, generation: str, report: Report) -> bool:
        """Waits until the submitter has seen the report and thought about it; True: stop now."""
        async with self.changed:
            s = self.slots[slot]
            ticket = s.ticket
            if s.generation != generation or ticket is None:
                return True
            s.progress = time.monotonic()
            if report.step > ticket.step:  # else replayed after a restart
                ticket.step = report.step
                ticket.messages.append(report)
                sent = ticket.sent
                self.changed.notify_all()
                await self._wait(lambda: ticket.stop or ticket.acknowledged >= sent or s.generation != generation)
                s.progress = time.monotonic()
            return ticket.stop

    async def beat(self, slot: int, generation: str) -> None:
        s = self.slots.get(slot)
        if s and s.generation == generation:
            s.progress = time.monotonic()

    async def first_step(self, slot: int) -> None:
        """For benches: rank 0 begins the first step of its task."""
        self._note(slot, "first step")

    async def end(self, slot: int, generation: str, rank: int, ended: Ended) -> bool:
        """True: all ranks left the task with the same number of collectives, so the group is clean and stays."""
        async with self.changed:
            s = self.slots[slot]
            if s.generation != generation or s.ticket is None:
                return False
            s.ended[rank] = ended
            key = s.key
            self.changed.notify_all()

            def settled() -> bool:
                return len(s.ended) == self.size or s.generation != generation or s.key != key or s.ticket is None

            await self._wait(settled, PEERS_S)
            missing = [] if settled() else [worker for r, worker in s.workers.items() if r not in s.ended]
        a_rank_died = not all([await _alive(worker) for worker in missing])
        async with self.changed:
            if s.generation == generation and s.key == key and s.ticket:  # the first rank through decides for all
                self._settle(slot, s, ended, a_rank_died)
            return s.generation == generation

    # ---------------------------------------------------------------- the driver
    async def add_slot(self, slot: int) -> None:
        async with self.changed:
            self.slots[slot] = _Slot()
            self.lost = ""

    async def joined(self, slot: int) -> None:
        """Waits until the slot has had a worker group or is gone, at most START_S."""
        async with self.changed:
            await self._wait(lambda: slot not in self.slots or self.slots[slot].generation or self.closed, START_S)

    async def retire_idle(self, keep: int) -> list[int]:
        """Of more than `keep` slots those leave that wait for resources, then idle ones, so that the cluster can take
        their nodes back. Those that have no worker group to tell are returned."""
        async with self.changed:
            staying = [slot for slot, s in self.slots.items() if not s.retiring]
            free = [slot for slot in staying if not self.slots[slot].ticket]
            free.sort(key=lambda slot: self.slots[slot].generation is not None and not self.slots[slot].starts)
            leaving = free[: max(0, len(staying) - keep)]
            for slot in leaving:
                self.slots[slot].retiring = True
            self.changed.notify_all()
            return [slot for slot in leaving if self.slots[slot].generation is None]

    async def post(self, preparation: Any) -> None:
        async with self.changed:
            self.preparation = (preparation,)
            self.changed.notify_all()

    async def slot_gone(self, slot: int, reason: str) -> str:
        """The slot's trainer has ended. Another slot takes its task; without any, all tasks stop, with the reason.

        Why it is gone; "" where it was asked to retire.
        """
        async with self.changed:
            s = self.slots.pop(slot, None)
            asked = s is not None and s.retiring and not s.unprepared
            reason = (s and s.unprepared) or reason
            if s and s.ticket and not s.ticket.over:
                self.queue.appendleft(s.ticket)
            if not self.slots:
                self._lose(reason)
            self._dispatch()
            return "" if asked else reason

    async def close(self) -> None:
        """Stops all tasks; ranks leave when theirs has stopped."""
        async with self.changed:
            self.closed = True
            for ticket in self.tickets.values():
                self._stop(ticket)
            self.changed.notify_all()

    async def look_after(self) -> None:
        """Runs for ever: ends tasks whose submitter is gone, and groups that make no progress."""
        while not self.closed:
            await asyncio.sleep(min(self.lease_s, self.hang_s) / 8)
            now = time.monotonic()
            async with self.changed:
                for number, ticket in list(self.tickets.items()):
                    if now - ticket.seen > self.lease_s:
                        self._stop(ticket)
                        if ticket.over:
                            del self.tickets[number]
                for slot, s in self.slots.items():
                    if s.rests_until and now > s.rests_until:
                        s.rests_until = 0.0
                        self._dispatch()
                    if s.ticket and s.generation and now - s.progress > self.hang_s:
                        self._finish(s.ticket, Outcome("failed", f"no progress for {self.hang_s:g} s"))
                        s.ticket = None
                        self._drop_group(slot, s, kill=True)

    async def ready_slots(self) -> int:
        """How many slots have a worker group and can train."""
        return sum(1 for s in self.slots.values() if s.generation and not s.starts and not s.rests_until)

    async def take_news(self) -> list[str]:
        """What the user should hear of, once."""
        news, self.news = self.news, []
        return news

    async def events(self) -> list[tuple[float, int, str, str]]:
        return self.log

    # ---------------------------------------------------------------- state
    def _attach(self, slot: int, s: _Slot, generation: str) -> None:
        """A new worker group; the task in which the group before died goes on with it."""
        if s.generation:
            s.left.add(s.generation)
        s.generation, s.starts, s.served, s.workers, s.ended = generation, s.starts + 1, 0, {}, {}
        if ticket := s.ticket:
            s.ticket = None
            if ticket.stop:
                self._finish(ticket, Outcome("stopped"))
            elif ticket.attempts > ticket.task.retries:
                self._finish(ticket, Outcome("failed", f"its workers died {ticket.attempts} times"))
            elif not ticket.over:
                self._assign(slot, s, ticket)
        self._dispatch()

    def _settle(self, slot: int, s: _Slot, ended: Ended, a_rank_died: bool) -> None:
        """Decides what a task's end means, when its ranks have left it or a missing one was looked after."""
        ticket = s.ticket
        assert ticket
        alike = len({(e.status, e.collectives) for e in s.ended.values()}) == 1
        clean = alike and len(s.ended) == self.size and s.served < self.recycle_after
        self._note(slot, "end")
        unfit = [e.reason for e in s.ended.values() if e.status == "unfit"]
        unfit_everywhere = [e.reason for e in s.ended.values() if e.status == "unfit everywhere"]
        if unfit_everywhere:
            self._lose(unfit_everywhere[0])
            s.ticket, s.ended = None, {}
        elif unfit:
            self._rest(slot, s, unfit[0])
            ticket.attempts -= 1  # a node's fault is none of the task's
            self.queue.appendleft(ticket)
            s.ticket, s.ended = None, {}
            if all(other.rests_until for other in self.slots.values()):
                self._lose(unfit[0])
        elif not a_rank_died:  # else the errors are echoes of a lost peer, and the next group takes the task up again
            failed = sorted((e.at, rank, e.reason) for rank, e in s.ended.items() if e.status == "failed")
            self._finish(ticket, Outcome("failed", failed[0][2]) if failed else Outcome(ended.status))
            s.ticket, s.ended = None, {}
        if not clean:
            self._drop_group(slot, s, kill=not alike or bool(a_rank_died))
        self._dispatch()

    def _rest(self, slot: int, s: _Slot, reason: str) -> None:
        """Its node gets no task for a while."""
        if not s.unfit:
            self.news.append(f"slot {slot} rests: {reason}")
        s.unfit, s.rests_until = reason, time.monotonic() + REST_S

    def _lose(self, reason: str) -> None:
        """No slot can work: all tasks end, those that are being done at their next report."""
        self.lost = reason
        for ticket in self.tickets.values():
            self._finish(ticket, Outcome("stopped", reason))
            ticket.stop = True

    def _drop_group(self, slot: int, s: _Slot, kill: bool) -> None:
        """Ray Train starts another group. `kill` where a rank may hang in a collective and cannot leave by itself."""
        assert s.generation
        self._note(slot, "drop")
        s.left.add(s.generation)
        s.generation = None
        if kill:
            for worker in s.workers.values():
                ray.kill(worker)
        self.changed.notify_all()

    def _dispatch(self) -> None:
        busy = {s.ticket.task.name for s in self.slots.values() if s.ticket}
        for slot, s in self.slots.items():
            if not s.generation or s.ticket or s.retiring or s.rests_until:
                continue
            ticket = next((t for t in self.queue if t.task.name not in busy), None)
            if ticket:
                self.queue.remove(ticket)
                busy.add(ticket.task.name)
                self._assign(slot, s, ticket)
        self.changed.notify_all()

    def _assign(self, slot: int, s: _Slot, ticket: _Ticket) -> None:
        self.keys += 1
        s.key, s.ticket, s.ended, s.progress = self.keys, ticket, {}, time.monotonic()
        s.served += 1
        ticket.attempts += 1
        self._note(slot, "assign")

    def _stop(self, ticket: _Ticket) -> None:
        ticket.stop = True
        if ticket in self.queue:
            self._finish(ticket, Outcome("stopped"))
        self.changed.notify_all()

    def _finish(self, ticket: _Ticket, outcome: Outcome) -> None:
        if not ticket.over:
            ticket.messages.append(outcome)
            ticket.over = True
        if ticket in self.queue:
            self.queue.remove(ticket)
        self.changed.notify_all()

    def _note(self, slot: int, event: str) -> None:
        s = self.slots[slot]
        self.log.append((time.time(), slot, event, s.ticket.task.name if s.ticket else ""))

    async def _wait(self, condition: Any, timeout_s: float | None = None) -> None:
        """Waits under the lock, which it gives up meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait_for(condition), timeout_s)


async def _alive(worker: Any) -> bool:
    """Whether a rank's process lives: its training thread may hang in a collective, its main thread answers."""
    try:
        await asyncio.wait_for(worker.__ray_ready__.remote(), 5)
    except RayActorError:
        return False
    except TimeoutError:
        return True
    return True
