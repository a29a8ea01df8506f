"""What Tune runs for a trial: it hands the training to the slots and forwards what they report."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.search.seeds import derived_seed
from raycnn.search.worker import Training
from raycnn.slots.client import follow
from raycnn.slots.messages import Outcome, Task
from raycnn.slots.pool import HEAD
from raycnn.spec.search import SearchSpec
from raycnn.spec.trial import TrialSpec


def trial_name(number: int) -> str:
    return f"trial-{number:03d}"


def trial_directory(run: Path, number: int) -> Path:
    return run / "trials" / str(number)


def trainable(hub: Any, run: Path, spec: SearchSpec, rungs: tuple[int, ...]) -> Any:
    """The Tune trial function; config: number, spec (TrialSpec as JSON). One result per epoch, then an outcome.

    With search.repeats, a training that ran to its end is repeated with other seeds, silently; the outcome carries the
    last metrics of all, as JSON.
    """
    from ray import tune

    checkpoint_s, retries = spec.trainer.checkpoint_s, spec.trainer.retries

    def trial(config: dict[str, Any]) -> None:
        number, first = config["number"], TrialSpec.model_validate_json(config["spec"])

        def task(repeat: int) -> Task:
            seed = derived_seed(spec.search.seed, f"trial {number} repeat {repeat}") if repeat else first.seed
            directory = trial_directory(run, number)
            training = Training(
                spec=first.model_copy(update={"seed": seed}),
                directory=directory / f"repeat-{repeat}" if repeat else directory,
                checkpoint_s=checkpoint_s,
                corruption_epochs=frozenset(rungs),
            )
            name = f"{trial_name(number)}-repeat-{repeat}" if repeat else trial_name(number)
            return Task(name, training, seed=seed, retries=retries)

        ended = _forward(hub, task(0), first.regularizers.passes, tune.report)
        last, seconds = [ended.metrics], 0.0
        for repeat in range(1, spec.search.repeats):
            if ended.outcome.status != "done":
                break
            ended = _forward(hub, task(repeat), first.regularizers.passes, lambda _: None)
            last.append(ended.metrics)
            seconds += ended.seconds
        outcome = {"epoch": ended.epoch, "outcome": ended.outcome.status, "reason": ended.outcome.reason}
        tune.report({**outcome, "repeats": json.dumps(last), "train/seconds": seconds})

    # No processor: the workers of the slots do the work, a trial must never wait for what they hold, and a head may
    # have none to give.
    return tune.with_resources(trial, tune.PlacementGroupFactory([HEAD]))


@dataclass(frozen=True, slots=True)
class _Ended:
    """A training: its outcome, epochs, seconds, and the last value of each metric."""

    outcome: Outcome
    epoch: int
    seconds: float
    metrics: dict[str, float]


def _forward(hub: Any, task: Task, passes: int, report: Callable[[dict[str, Any]], None]) -> _Ended:
    epoch, spent_s, metrics = 0, 0.0, {}
    # Closing the iteration stops the task: Tune ends a trial by raising SystemExit from its report.
    with contextlib.closing(follow(hub, task)) as messages:
        for message in messages:
            if isinstance(message, Outcome):
                return _Ended(message, epoch, spent_s, metrics)
            record = message.content.record
            epoch = record.epoch
            before_s, spent_s = spent_s, message.content.seconds
            costs = {"cost/images": float(record.images * passes), "cost/seconds": spent_s}
            metrics |= record.metrics | costs
            report(
                {
                    "epoch": epoch,
                    "images": record.images,
                    "lr": record.lr,
                    "train/loss": record.train_loss,
                    "train/seconds": spent_s - before_s,
                    **costs,
                    **record.metrics,
                    **({"note": "; ".join(message.content.notes)} if message.content.notes else {}),
                }
            )
    raise AssertionError("a task ends with an outcome")
