"""What Tune runs for a trial: it hands the training to the slots and forwards what they report."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """The Tune trial function; config: number, spec (TrialSpec as JSON). One result per epoch, then an outcome."""
    from ray import tune

    checkpoint_s, retries = spec.trainer.checkpoint_s, spec.trainer.retries

    def trial(config: dict[str, Any]) -> None:
        number = config["number"]
        training = Training(
            spec=TrialSpec.model_validate_json(config["spec"]),
            directory=trial_directory(run, number),
            checkpoint_s=checkpoint_s,
            corruption_epochs=frozenset(rungs),
        )
        task = Task(trial_name(number), training, seed=training.spec.seed, retries=retries)
        _forward(hub, task, training.spec.regularizers.passes, tune.report)

    # Hardly anything: the workers of the slots do the work, and a trial must never wait for what they hold.
    return tune.with_resources(trial, tune.PlacementGroupFactory([{"CPU": 0.001, **HEAD}]))


def _forward(hub: Any, task: Task, passes: int, report: Callable[[dict[str, Any]], None]) -> None:
    # Closing the iteration stops the task: Tune ends a trial by raising SystemExit from its report.
    with contextlib.closing(follow(hub, task)) as messages:
        epoch, spent_s = 0, 0.0
        for message in messages:
            if isinstance(message, Outcome):
                report({"epoch": epoch, "outcome": message.status, "reason": message.reason})
            else:
                record = message.content.record
                epoch = record.epoch
                spent_s += record.train_s + record.evaluate_s
                report(
                    {
                        "epoch": epoch,
                        "images": record.images,
                        "lr": record.lr,
                        "train/loss": record.train_loss,
                        "train/seconds": record.train_s + record.evaluate_s,
                        "cost/images": float(record.images * passes),
                        "cost/seconds": spent_s,
                        **record.metrics,
                        **({"note": "; ".join(message.content.notes)} if message.content.notes else {}),
                    }
                )
