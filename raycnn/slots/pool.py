"""The driver's side: one `TorchTrainer.fit()` per slot (see `controller`), each in a thread, and one hub for all.

    with SlotPool(workload, shape, storage) as pool:
        pool.grow(2)
        pool.post(preparation)          # workers start while it is being made
        outcome = client.run(pool.hub, Task("trial-000", payload))

On leaving, every worker, controller and placement group is gone; those of a slot that was just starting, soon after.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayError

from raycnn.slots.hub import Hub
from raycnn.slots.messages import Workload
from raycnn.slots.rank import rank_loop
from raycnn.slots.reasons import reason_of

HEAD = {"node:__internal_head__": 0.001}  # hub and forwarders stay with the driver: a lost worker node takes none along


@dataclass(frozen=True, slots=True)
class SlotShape:
    """The workers of one slot, and what the hub allows a task. `cpus` and `gpus` are per worker."""

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    hang_s: float = 600.0
    recycle_after: int | None = None

    def resources(self) -> dict[str, float]:
        """What Ray reserves for a worker: a hair less than its CPUs, which the forwarders of trials live on."""
        gpu = {"GPU": self.gpus} if self.gpus else {}
        return {"CPU": max(self.cpus - 0.02, 0.01), **gpu}

    def words(self) -> str:
        """What a slot needs, for people."""
        gpu = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.workers} x {self.cpus:g} CPUs{gpu}"


class _Recalled(Exception):
    """A slot that is no longer wanted."""


class SlotPool:
    """See the module."""

    def __init__(
        self,
        workload: Workload,
        shape: SlotShape,
        storage: Path,
        lease_s: float = 60.0,
        on_news: Callable[[str], None] = lambda _: None,
        start_s: float = 120.0,
    ) -> None:
        """on_news: told, from a thread, of slots that do not start, rest, or are gone, and why. start_s: what a process
        group and its first all-reduce may take."""
        self._workload, self._shape, self._storage, self._on_news = workload, shape, storage, on_news
        self._start_s = start_s
        self._threads: dict[int, threading.Thread] = {}
        self._controllers: dict[int, Any] = {}  # Ray Train's actors, by slot
        self._recalled: set[int] = set()
        self._closing = False
        self._lock = threading.Lock()  # of the three above
        actor = ray.remote(num_cpus=0)(Hub).options(
            max_concurrency=10_000, resources=HEAD, name=f"hub-{uuid.uuid4().hex[:6]}"
        )
        self.hub: Any = actor.remote(shape.workers, shape.hang_s, shape.recycle_after, lease_s, start_s, shape.words())
        self.hub.look_after.remote()
        self._listener = threading.Thread(target=self._listen, daemon=True, name="slots-news")
        self._listener.start()
        self.starters = max(1, int(ray.cluster_resources().get("CPU", 1)) // 4)  # slots that may start at once
        self._starting = threading.Semaphore(self.starters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grow(self, slots: int) -> None:
        """Have at least `slots` slots. Those that find no resources yet wait for them and hinder nobody."""
        for slot in range(len(self._threads), slots):
            added = self.hub.add_slot.remote(slot)
            thread = threading.Thread(target=self._serve, args=(slot, added), daemon=True, name=f"slot-{slot}")
            self._threads[slot] = thread
            thread.start()

    def retire_idle(self, keep: int) -> None:
        """Let slots that wait for resources leave, then idle ones, until `keep` are left. They do not come back."""
        for slot in ray.get(self.hub.retire_idle.remote(keep)):
            with self._lock:
                self._recalled.add(slot)
            self._kill_controller(slot)

    def post(self, preparation: Any) -> None:
        """Give what `Workload.prepare` takes; the workers have been waiting for it."""
        ray.get(self.hub.post.remote(preparation))

    def close(self, timeout_s: float = 4.0) -> None:
        """End all tasks and slots. Workers that do not leave in time are killed."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with contextlib.suppress(RayError):
            ray.get(self.hub.close.remote(), timeout=timeout_s)
        self._join(timeout_s)
        for slot in list(self._controllers):
            self._kill_controller(slot)
        ray.kill(self.hub)
        self._join(timeout_s)  # a thread that called Ray after its shutdown would end this process on the spot

    def _join(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in (self._listener, *self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _kill_controller(self, slot: int) -> None:
        """Its workers go with it, and its thread removes its placement group."""
        if controller := self._controllers.get(slot):
            ray.kill(controller)

    def _listen(self) -> None:
        with contextlib.suppress(RayError):  # the hub ends with the pool
            while not self._closing:
                for line in ray.get(self.hub.take_news.remote()):
                    self._on_news(line)

    def _serve(self, slot: int, added: Any) -> None:
        with contextlib.suppress(RayError):
            ray.get(added)
        self._starting.acquire()
        if self._closing:
            self._starting.release()
            return
        self.hub.joined.remote(slot).future().add_done_callback(lambda _: self._starting.release())
        with contextlib.suppress(RayError):  # of the hub, which ends with the pool
            reason = self._run(slot)
            while not self._unwanted(slot) and ray.get(self.hub.group_gone.remote(slot, reason)):
                reason = self._run(slot)
            if not self._closing:
                ray.get(self.hub.slot_gone.remote(slot, reason))

    def _run(self, slot: int) -> str:
        """A controller from its start to its end; why it ended."""
        from raycnn.slots.controller import run_controller

        config = {"hub": self.hub, "slot": slot, "workload": self._workload, "start_s": self._start_s}
        name = f"slot-{slot}-{uuid.uuid4().hex[:6]}"

        def started(start: Callable[[], Any]) -> Any:
            with self._lock:
                if self._unwanted(slot):
                    raise _Recalled
                self._controllers[slot] = start()
                return self._controllers[slot]

        try:
            run_controller(rank_loop, config, self._shape, name, str(self._storage), started)
        except Exception as error:  # told to the hub, which decides what it means
            return reason_of(error)
        return "its workers left"

    def _unwanted(self, slot: int) -> bool:
        return self._closing or slot in self._recalled
