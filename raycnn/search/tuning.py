"""The search itself: Ray Tune drives the study's trials over the slots."""

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import FIFOScheduler

from raycnn.errors import ClusterError
from raycnn.files import disk_fault, fault_words
from raycnn.masking import is_secret_name
from raycnn.search.observer import Observer
from raycnn.search.scheduler import RungScheduler, rung_epochs
from raycnn.search.searcher import StudySearcher
from raycnn.search.study import Study
from raycnn.search.tracking import Tracking
from raycnn.search.trainable import trainable, trial_name
from raycnn.slots.pool import SlotPool
from raycnn.spec.search import SearchSpec


def tune_trials(
    run: Path,
    spec: SearchSpec,
    study: Study,
    pool: SlotPool,
    slots: int,
    observer: Observer,
    deadline_s: float | None = None,
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Run trials until the study holds as many finished ones as wished.

    deadline_s: of time.monotonic(); a trial that would end later is not started.

    slots: how many trials to begin with; as slots become ready beyond that, so many. on_ready: told how many are ready,
    now and then. KeyboardInterrupt passes through;
    what runs then goes on when the search is resumed. Raises ClusterError if no slot can work.
    """
    _forget_resolved_futures()
    _hand_on_no_secrets()
    left = spec.search.trials - len(study.finished())
    trackers = [Tracking(name, run, spec, observer.warning) for name in spec.tracking]
    searcher = StudySearcher(study, spec, _SlotCount(pool, slots, on_ready), observer, deadline_s)
    tuner = tune.Tuner(
        trainable(pool.hub, run, spec, rung_epochs(spec)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=RungScheduler(study, spec) if rung_epochs(spec) else FIFOScheduler(),
            num_samples=left,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial_name(trial.config["number"]),
            trial_dirname_creator=lambda trial: f"{trial_name(trial.config['number'])}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run),
            verbose=0,
            callbacks=[_Events(), *trackers],
            failure_config=tune.FailureConfig(max_failures=10),  # of forwarders: one death counts several times
        ),
    )
    try:
        tuner.fit()
    except KeyboardInterrupt:
        searcher.interrupted = True
        raise
    except Exception as error:
        # Tune tells of what the study or its own files met in a traceback's text, the error itself is behind that.
        if not searcher.hopeless and (fault := disk_fault(error)):
            searcher.hopeless = fault_words(fault)
        if not searcher.hopeless:
            raise
    finally:
        for tracker in trackers:
            tracker.close()
    if searcher.hopeless:
        raise ClusterError(
            f"no trial can be trained: {searcher.hopeless.rstrip('.')}. Then the same command goes on with what ran. "
            f"See raycnn.log in {run}."
        )


class _Events(TBXLoggerCallback):
    """TensorBoard's events. Their writer is a thread that a full disk ends, and then whoever hands it more events than
    its queue holds waits for ever (tensorboardX 2.6): here the queue holds a result, and a dead writer is replaced.
    Raises OSError."""

    def __init__(self) -> None:
        super().__init__()
        self._summary_writer_cls = functools.partial(self._summary_writer_cls, max_queue=1000)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._forget_dead_writer(trial)
        super().log_trial_result(iteration, trial, result)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._forget_dead_writer(trial)
        super().log_trial_end(trial, failed)

    def _forget_dead_writer(self, trial: Any) -> None:
        writer = getattr(self._trial_writer.get(trial), "file_writer", None)
        events = getattr(writer, "event_writer", None)
        thread = getattr(events, "_worker", None)
        if events is not None and thread is not None and not thread.is_alive():
            del self._trial_writer[trial]  # the next result begins another file
            events.flush()  # raises what the thread has met, if it is still so


def _forget_resolved_futures() -> None:
    """Tune keeps the future of each result for as long as the trial's actor lives, and ours are reused: without this,
    the driver grows by some kB an epoch (Ray 2.60)."""
    original = RayActorManager._schedule_tracked_actor_task
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def schedule(self: Any, tracked_actor_task: Any, *arguments: Any, **named: Any) -> Any:
        futures = self._tracked_actors_to_task_futures[tracked_actor_task._tracked_actor]
        futures.intersection_update(self._actor_task_events._tracked_futures)
        return original(self, tracked_actor_task, *arguments, **named)

    RayActorManager._schedule_tracked_actor_task = schedule  # pyright: ignore[reportAttributeAccessIssue]


def _hand_on_no_secrets() -> None:
    """Tune copies AWS_SECRET_ACCESS_KEY and its like into the environment of each trial's actor, which Ray writes to
    its logs and shows on its dashboard. The actors only forward; workers have the environment of their node."""
    from ray.tune.execution import class_cache

    copied = getattr(class_cache, "ENV_VARS_TO_PROPAGATE", None)
    if isinstance(copied, set):
        copied -= {name for name in copied if is_secret_name(name)}


class _SlotCount:
    """How many trials may run: as many as slots are ready or starting. Asks the hub twice a second, never waits."""

    def __init__(self, pool: SlotPool, planned: int, on_ready: Callable[[int], None]) -> None:
        self._pool, self._planned, self._on_ready = pool, planned, on_ready
        self._known, self._asked = min(planned, pool.starters), time.monotonic()
        self._answer: Any = None

    def __call__(self) -> int:
        if self._answer is None and time.monotonic() - self._asked > 0.5:
            self._asked = time.monotonic()
            self._answer = self._pool.hub.ready_slots.remote()
        elif self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
            answer, self._answer = self._answer, None
            with contextlib.suppress(RayActorError):  # the hub has died: each trial ends with that reason
                ready: Any = ray.get(answer)
                self._on_ready(ready)
                self._known = min(max(self._planned, ready), ready + self._pool.starters)
        return self._known
