"""The driver's side: one `TorchTrainer.fit()` per slot, each in a thread, and one hub for all.

    with SlotPool(workload, shape, storage) as pool:
        pool.grow(2)
        pool.post(preparation)          # workers start while it is being made
        outcome = client.run(pool.hub, Task("trial-000", payload))

On leaving, every worker, controller and placement group is gone; those of a slot that was just starting, soon after.
The calls to Ray Train that are not public are those of the pinned version.
"""

import contextlib
import functools
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError

from raycnn.slots import loopback
from raycnn.slots.hub import Hub
from raycnn.slots.messages import Workload
from raycnn.slots.rank import rank_loop

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
        on_loss: Callable[[str], None] = lambda _: None,
    ) -> None:
        """on_loss: told, from a thread, of a slot that is gone for good."""
        self._workload, self._shape, self._storage, self._on_loss = workload, shape, storage, on_loss
        self._threads: dict[int, threading.Thread] = {}
        self._controllers: dict[int, Any] = {}  # Ray Train's actors, by slot
        self._recalled: set[int] = set()
        self._closing = False
        self._lock = threading.Lock()  # of the three above
        actor = ray.remote(num_cpus=0)(Hub).options(
            max_concurrency=10_000, resources=HEAD, name=f"hub-{uuid.uuid4().hex[:6]}"
        )
        self.hub: Any = actor.remote(shape.workers, shape.hang_s, shape.recycle_after, lease_s)
        self.hub.look_after.remote()
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

    def news(self) -> list[str]:
        """What the user should hear of, since this was last asked."""
        return ray.get(self.hub.take_news.remote())

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
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _kill_controller(self, slot: int) -> None:
        """Its workers go with it, and its thread removes its placement group."""
        if controller := self._controllers.get(slot):
            ray.kill(controller)

    def _serve(self, slot: int, added: Any) -> None:
        with contextlib.suppress(RayError):
            ray.get(added)
        self._starting.acquire()
        if self._closing:
            self._starting.release()
            return
        self.hub.joined.remote(slot).future().add_done_callback(lambda _: self._starting.release())
        reason = "a slot gave up: its workers die before they are ready"
        for _ in range(3):  # another controller where the controller itself died
            try:
                self._trainer(slot).fit()
                break
            except Exception as error:  # reported to the hub below, with the tasks that it fails
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if self._closing or slot in self._recalled:
                break
        if not self._closing:
            with contextlib.suppress(RayError):
                if told := ray.get(self.hub.slot_gone.remote(slot, reason)):
                    self._on_loss(f"slot {slot} is gone: {told}")

    def _start_controller(self, slot: int, made: dict[str, Any]) -> Any:
        """Ray Train's controller, on this node, as its trainers start it. Raises _Recalled."""
        from ray.train.v2._internal.constants import get_env_vars_to_propagate
        from ray.train.v2._internal.execution.controller import TrainController

        actor = ray.remote(TrainController).options(
            num_cpus=0,
            label_selector={ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()},  # pyright: ignore private
            runtime_env={"env_vars": get_env_vars_to_propagate()},
        )
        with self._lock:
            if self._closing or slot in self._recalled:
                raise _Recalled
            self._controllers[slot] = actor.remote(**made)
            return self._controllers[slot]

    def _trainer(self, slot: int) -> Any:
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from raycnn.slots.group import ProcessGroup

        group: Any = ProcessGroup(loopback.on_loopback())
        start = functools.partial(self._start_controller, slot)

        class SlotTrainer(TorchTrainer):
            """Its controller is known, so that a slot that starts or waits for resources can be ended. Without two
            processes a slot: one for Ray Data, which is not used here, and one that removes a dead controller's
            placement group, but only if its workers had come."""

            def _create_default_callbacks(self) -> list[Any]:
                made = super()._create_default_callbacks()
                without = ("DatasetsCallback", "PlacementGroupCleanerCallback")
                return [callback for callback in made if type(callback).__name__ not in without]

            def _initialize_and_run_controller(self, **made: Any) -> Any:
                controller = start(made)
                try:
                    ray.get(controller.run.remote())
                    return ray.get(controller.get_result.remote())
                except RayActorError:
                    _remove_placement_groups(controller)
                    raise

        return SlotTrainer(
            rank_loop,
            torch_config=group,
            train_loop_config={"hub": self.hub, "slot": slot, "workload": self._workload},
            scaling_config=ScalingConfig(
                num_workers=self._shape.workers,
                use_gpu=self._shape.gpus > 0,
                resources_per_worker=self._shape.resources(),
            ),
            run_config=RunConfig(
                name=f"slot-{slot}-{uuid.uuid4().hex[:6]}",
                storage_path=str(self._storage),
                # Its count is cumulative and never reset; the hub counts retries per task and starts per slot.
                failure_config=FailureConfig(max_failures=-1, controller_failure_limit=3),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )


def _remove_placement_groups(creator: Any) -> None:
    """Those that a dead actor had made. Ray keeps them until its job has ended: resources that nobody can have."""
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # pyright: ignore made by protobuf
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    accessor = ray._private.state.state._connect_and_get_accessor()  # pyright: ignore private: the table of ray.util has no creators
    for entry in accessor.get_placement_group_table():
        made = PlacementGroupTableData.FromString(entry)
        if made.creator_actor_id == creator._actor_id.binary():
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(made.placement_group_id)))
