"""The hub: one asyncio actor that is the mailbox of all slots.

It outlives worker groups, and the driver's job owns it. A slot's worker group is known by its `generation`; ranks of an
older one are told to leave. All state changes happen under one condition, which wakes everybody who waits.
"""

import asyncio
import collections
import contextlib
import time
from typing import Any

import ray
from ray.exceptions import RayActorError

from raycnn.slots.messages import Assignment, Ended, Outcome, Phase, Report, Task
from raycnn.slots.records import GRACE_S, SLOW_S, Slot, Ticket

START_S = 20.0  # how long a starting slot makes others wait at most; it may be waiting for resources
POLL_S = 5.0  # longest silence of a long poll
REST_S = 60.0  # how long a slot takes no task whose node could not train
PEERS_S = 2.0  # how long the ranks of a group may differ in leaving a task before a missing one is looked after
IDLE_S = 120.0  # without any worker, after which the user hears what is waited for


class Hub:
    """See the module. `size`: ranks per slot; `start_s`: for each phase of a start; `needs`: a slot's resources, in
    words; the other limits are those of spec.Trainer."""

    def __init__(
        self,
        size: int,
        hang_s: float,
        recycle_after: int | None,
        lease_s: float = 60.0,
        start_s: float = 120.0,
        needs: str = "",
        max_starts: int = 3,
    ):
        self.size, self.hang_s, self.lease_s, self.max_starts = size, hang_s, lease_s, max_starts
        self.start_s, self.needs, self.idle_since = start_s, needs, time.monotonic()
        self.recycle_after = recycle_after or float("inf")
        self.slots: dict[int, Slot] = {}
        self.tickets: dict[int, Ticket] = {}
        self.queue: collections.deque[Ticket] = collections.deque()
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
            ticket = Ticket(task)
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
    async def join(self, slot: int, generation: str, rank: int, worker: Any, host: str, place: str = "") -> bool:
        """Called by each rank of a new worker group, first of all; False: leave.

        place: what it shares memory with other slots' workers of: a GPU, else a node."""
        async with self.changed:
            s = self.slots.get(slot)
            if s is None or generation in s.left or self.closed or s.retiring:
                return False
            if s.generation != generation:
                self._attach(s, generation)
            s.workers[rank], s.hosts[rank], s.place = worker, host, place
            s.phases[rank] = ("starting", time.monotonic())
            self.changed.notify_all()
            return True

    async def begins(self, slot: int, generation: str, rank: int, phase: Phase) -> None:
        """How far a rank's start is."""
        s = self.slots.get(slot)
        if s and s.generation == generation:
            s.phases[rank] = (phase, time.monotonic())

    async def cannot_start(self, slot: int, generation: str, reason: str, for_good: bool = False) -> None:
        """A rank's start failed. for_good: another group would fare no better, the slot leaves."""
        async with self.changed:
            s = self.slots.get(slot)
            if s is None or s.generation != generation:
                return
            s.failure = s.failure or reason
            if for_good:
                s.hopeless, s.retiring = s.failure, True
                self._drop_group(slot, s, kill=True)  # or its peers would wait for it

    async def prepared_with(self) -> tuple[Any] | None:
        """What the driver posted for `Workload.prepare`; waits for it. None: the slots close before."""
        async with self.changed:
            await self._wait(lambda: self.preparation is not None or self.closed)
            return self.preparation

    async def next(self, slot: int, generation: str, rank: int, last: int) -> Assignment | None:
        """The assignment after `last`; waits for it. None: leave."""
        async with self.changed:
            s = self.slots.get(slot)
            if s is None or s.generation != generation:
                return None
            s.phases[rank] = ("ready", time.monotonic())
            if not s.ready and all(s.phases.get(peer, ("",))[0] == "ready" for peer in range(self.size)):
                s.ready, s.failed, s.failure = True, 0, ""
                self._note(slot, "ready")
                self._dispatch()
            await self._wait(
                lambda: s.generation != generation or (s.ticket and s.key > last) or self.closed or s.retiring
            )
            if s.generation != generation or not s.ticket:
                return None
            return Assignment(s.key, s.ticket.task, s.ticket.alone)

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
            self.slots[slot] = Slot()
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
            free.sort(key=lambda slot: self.slots[slot].generation is not None and self.slots[slot].ready)
            leaving = free[: max(0, len(staying) - keep)]
            for slot in leaving:
                self.slots[slot].retiring = True
            self.changed.notify_all()
            return [slot for slot in leaving if self.slots[slot].generation is None]

    async def post(self, preparation: Any) -> None:
        async with self.changed:
            self.preparation = (preparation,)
            self.changed.notify_all()

    async def group_gone(self, slot: int, reason: str) -> bool:
        """The slot's worker group has ended or could not be made; True: it shall have another."""
        async with self.changed:
            s = self.slots.get(slot)
            if s is None:
                return False
            s.failure = s.failure or reason
            self._give_back(s, s.failure)
            if s.generation:
                s.left.add(s.generation)
            died = s.generation is not None  # else it was dropped here, for a reason that has been told
            s.generation, was_ready, s.ready = None, s.ready, False
            again = not (self.closed or s.retiring)
            if again and was_ready and died:
                self.news.append(f"slot {slot} lost its workers and starts others: {s.failure}")
            if again and not was_ready:
                s.failed += 1
                again = s.failed < self.max_starts
                if again:
                    self.news.append(f"slot {slot} did not start, {s.failed} of {self.max_starts} tries: {s.failure}")
                else:
                    s.hopeless, s.retiring = s.failure, True
            s.failure = ""
            self._dispatch()
            return again

    async def slot_gone(self, slot: int, reason: str) -> None:
        """The slot's trainer has ended. Another slot takes its task; without any, all tasks stop, with the reason."""
        async with self.changed:
            s = self.slots.pop(slot, None)
            if s:
                reason = s.hopeless or reason
                self._give_back(s, reason)
                if s.hopeless or not s.retiring:
                    self.news.append(f"slot {slot} is gone: {reason}")
            if not self.slots:
                self._lose(reason)
            self._dispatch()

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
            await asyncio.sleep(min(self.lease_s, self.hang_s, self.start_s) / 8)
            now = time.monotonic()
            async with self.changed:
                for number, ticket in list(self.tickets.items()):
                    if now - ticket.seen > self.lease_s:
                        self._stop(ticket)
                        if ticket.over:
                            del self.tickets[number]
                if not self.slots or self.lost or any(s.generation for s in self.slots.values()):
                    self.idle_since = now
                elif now - self.idle_since > IDLE_S:
                    self.idle_since = float("inf")  # said once
                    self.news.append(
                        f"no worker yet in {IDLE_S:g} s: a slot needs {self.needs}. ray status says who has them"
                    )
                    self.changed.notify_all()
                for slot, s in self.slots.items():
                    if s.rests_until and now > s.rests_until:
                        s.rests_until = 0.0
                        self._dispatch()
                    if s.ticket and s.generation and now - s.progress > self.hang_s:
                        self._finish(s.ticket, Outcome("failed", f"no progress for {self.hang_s:g} s"))
                        s.ticket = None
                        self._drop_group(slot, s, kill=True)
                    if s.generation and not s.ready:
                        self._look_at_start(slot, s, now)

    def _look_at_start(self, slot: int, s: Slot, now: float) -> None:
        """A rank that takes long is told, and one that takes too long ends its group."""
        if (behind := s.behind(now, self.size)) is None:
            return
        words, phase, seconds = behind
        limit_s = self.hang_s if phase == "preparing" else self.start_s + GRACE_S
        if seconds > limit_s:
            s.failure = s.failure or f"{words} took more than {limit_s:g} s"
            self._drop_group(slot, s, kill=True)
        elif seconds > SLOW_S and not s.slow:
            s.slow = True
            self.news.append(f"slot {slot} is slow to start: {words} takes more than {SLOW_S:g} s, of {limit_s:g} s")
            self.changed.notify_all()

    async def ready_slots(self) -> int:
        """How many slots have a worker group and can train."""
        return sum(1 for s in self.slots.values() if s.generation and s.ready and not s.rests_until)

    async def take_news(self) -> list[str]:
        """What the user should hear of, once; waits for it, at most POLL_S."""
        async with self.changed:
            await self._wait(lambda: self.news or self.closed, POLL_S)
            news, self.news = self.news, []
            return news

    async def events(self) -> list[tuple[float, int, str, str]]:
        return self.log

    # ---------------------------------------------------------------- state
    def _attach(self, s: Slot, generation: str) -> None:
        """A new worker group, which has to start before it takes a task."""
        self._give_back(s, s.failure)
        if s.generation:
            s.left.add(s.generation)
        s.generation, s.ready, s.failure, s.served, s.workers, s.ended = generation, False, "", 0, {}, {}
        s.slow = False
        s.phases = {rank: ("joining", time.monotonic()) for rank in range(self.size)}
        s.hosts = {}

    def _give_back(self, s: Slot, reason: str) -> None:
        """The task in which the slot's group died goes on with the next one that is free."""
        ticket, s.ticket = s.ticket, None
        if ticket is None or ticket.over:
            return
        if ticket.stop:
            self._finish(ticket, Outcome("stopped"))
        elif ticket.attempts > ticket.task.retries:
            why = f", at last: {reason}" if reason else ""
            self._finish(ticket, Outcome("failed", f"its workers died {ticket.attempts} times{why}"))
        else:
            self.queue.appendleft(ticket)

    def _settle(self, slot: int, s: Slot, ended: Ended, a_rank_died: bool) -> None:
        """Decides what a task's end means, when its ranks have left it or a missing one was looked after."""
        ticket = s.ticket
        assert ticket
        alike = len({(e.status, e.collectives) for e in s.ended.values()}) == 1
        usable = all(e.usable for e in s.ended.values())
        clean = alike and usable and len(s.ended) == self.size and s.served < self.recycle_after
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
            failed = sorted(
                (e.at, rank, e.reason, e.status)
                for rank, e in s.ended.items()
                if e.status in ("failed", "out of memory")
            )
            if failed and failed[0][3] == "out of memory" and not (ticket.alone or ticket.stop or ticket.over):
                # A neighbour may have had what was missing.
                self.news.append(f"{ticket.task.name} ran out of memory, and is tried again alone: {failed[0][2]}")
                ticket.alone, ticket.place, ticket.attempts = True, s.place, ticket.attempts - 1
                self.queue.appendleft(ticket)
            else:
                self._finish(ticket, Outcome("failed", failed[0][2]) if failed else Outcome(ended.status))
            s.ticket, s.ended = None, {}
        if not clean:
            self._drop_group(slot, s, kill=not (alike and usable) or a_rank_died)
        self._dispatch()

    def _rest(self, slot: int, s: Slot, reason: str) -> None:
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

    def _drop_group(self, slot: int, s: Slot, kill: bool) -> None:
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
            if not (s.generation and s.ready) or s.ticket or s.retiring or s.rests_until:
                continue
            ticket = next((t for t in self.queue if t.task.name not in busy and self._may_take(s, t)), None)
            if ticket:
                self.queue.remove(ticket)
                busy.add(ticket.task.name)
                self._assign(slot, s, ticket)
                if ticket.alone:
                    self._dispatch()  # the slots before this one no longer wait for it
                    return
        self.changed.notify_all()

    def _may_take(self, s: Slot, ticket: Ticket) -> bool:
        """What runs alone waits until those that it would share memory with are idle, and they for it."""
        neighbours = [other for other in self.slots.values() if other is not s and other.place == s.place]
        if ticket.alone:
            return not any(other.ticket for other in neighbours)
        places = {other.place for other in self.slots.values()}
        waiting = {t.place if t.place in places else s.place for t in self.queue if t.alone}
        return s.place not in waiting and not any(other.ticket and other.ticket.alone for other in neighbours)

    def _assign(self, slot: int, s: Slot, ticket: Ticket) -> None:
        self.keys += 1
        s.key, s.ticket, s.ended, s.progress = self.keys, ticket, {}, time.monotonic()
        s.served += 1
        ticket.attempts += 1
        self._note(slot, "assign")

    def _stop(self, ticket: Ticket) -> None:
        ticket.stop = True
        if ticket in self.queue:
            self._finish(ticket, Outcome("stopped"))
        self.changed.notify_all()

    def _finish(self, ticket: Ticket, outcome: Outcome) -> None:
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
