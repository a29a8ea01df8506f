"""The finals: the finalists and the untuned baseline, retrained in full on all training images over several seeds."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import CheckpointError, ClusterError
from raycnn.reporting.words import counted
from raycnn.search.finalists import Finalist, keep_finalists
from raycnn.search.front import finalists
from raycnn.search.observer import Observer
from raycnn.search.seeds import derived_seed
from raycnn.search.study import Study
from raycnn.search.trainable import trial_name
from raycnn.search.worker import Training
from raycnn.slots.client import run as run_task
from raycnn.slots.messages import Report, Task
from raycnn.spec.search import Finals, SearchSpec
from raycnn.spec.trial import TrialSpec
from raycnn.training.checkpoint import LAST, read
from raycnn.training.log import read_records


@dataclass(frozen=True, slots=True)
class Final:
    """One training of the finals. `model`: "baseline" or the trial's name; the same seeds for all models, so that
    comparisons are paired."""

    model: str
    seed: int
    spec: TrialSpec
    directory: Path

    @property
    def done(self) -> bool:
        """Whether its last epoch is on disk."""
        epochs = [record["epoch"] for record in read_records(self.directory / "metrics.jsonl")]
        return epochs[-1:] == [self.spec.epochs] and (self.directory / LAST).exists()


def plan_finals(run: Path, spec: SearchSpec, study: Study) -> list[Final]:
    """The baseline's and the finalists' trainings, in that order; empty where finals are off."""
    if not isinstance(spec.finals, Finals):
        return []
    baseline = next(trial for trial in study.trials() if trial.number == 0)
    chosen = [("baseline", baseline)]
    found = finalists(study.trials(), spec.finals.top, spec.finals.choice)
    chosen += [(trial_name(trial.number), trial) for trial in found]
    planned = []
    for index in range(spec.finals.seeds):
        seed = derived_seed(spec.search.seed, f"final {index}")
        for model, trial in chosen:
            wish = {"seed": seed, "epochs": spec.finals.epochs or spec.budget.epochs, "train_on": "all"}
            resolved = TrialSpec.model_validate(json.loads(trial.user_attrs["spec"]) | wish)
            planned.append(Final(model, seed, resolved, run / "finals" / model / f"seed-{index}"))
    return planned


def _set_aside(final: Final) -> None:
    """What another setting left in its directory, as where finals.epochs were others, is kept beside it."""
    try:
        found = read(final.directory / LAST).spec
    except CheckpointError:  # none, or a torn one, which the training looks after
        return
    if found != final.spec:
        number = sum(1 for _ in final.directory.parent.glob(f"before-*-{final.directory.name}"))
        final.directory.replace(final.directory.with_name(f"before-{number}-{final.directory.name}"))


def write_finalists(run: Path, planned: list[Final]) -> None:
    """finals/finalists.json: what scoring reads."""
    keep_finalists(run, [Finalist(final.model, final.seed, str(final.directory.relative_to(run))) for final in planned])


def train_finals(
    planned: list[Final], spec: SearchSpec, hub: Any, observer: Observer, threads: ThreadPoolExecutor
) -> list[str]:
    """Train what is not done yet, on the slots of the search; the reasons of those that failed.

    threads: as many as there are finals, for the hub queues them, and slots take them as they come free.
    Raises ClusterError where no slot can train.
    """
    todo = [final for final in planned if not final.done]
    for final in todo:
        _set_aside(final)
    finished = earlier = len(planned) - len(todo)
    since = time.monotonic()
    count = threading.Lock()
    running: dict[str, tuple[int, int]] = {}  # epochs finished, of how many
    failures: list[str] = []
    hopeless: list[str] = []  # why no slot can train
    observer.status(0, finished, len(planned), {}, None)

    def train(final: Final) -> None:
        nonlocal finished
        name = f"{final.model} {final.directory.name}"
        training = Training(final.spec, final.directory, spec.trainer.checkpoint_s, frozenset())

        def on_report(report: Report) -> None:
            for note in report.content.notes:
                observer.warning(f"final {name}: {note}")
            with count:
                running[name] = report.step, final.spec.epochs
                observer.finals_progress(dict(running))

        outcome = run_task(hub, Task(name, training, final.spec.seed, spec.trainer.retries), on_report)
        with count:
            running.pop(name, None)
            observer.finals_progress(dict(running))
            finished += outcome.status == "done"
            if outcome.status == "stopped":
                hopeless.append(outcome.reason or f"{name} was stopped")
            elif outcome.status == "failed":
                failures.append(f"{name}: {outcome.reason}")
                observer.warning(f"final {name} failed: {outcome.reason}")
            elif outcome.status == "done":
                observer.message(f"final {finished}/{len(planned)}  {name}  {counted(final.spec.epochs, 'epoch')}")
                left_s = (len(planned) - finished) * (time.monotonic() - since) / (finished - earlier)
                observer.status(len(running), finished, len(planned), {}, left_s)

    list(threads.map(train, todo))
    if hopeless:
        raise ClusterError(f"no final can be trained: {hopeless[0].rstrip('.')}. Then the same command goes on.")
    return failures


def no_finals(lost: set[str], failures: list[str]) -> str:
    """Why no finalist can be scored. A training that did not fail and is not done has lost its checkpoint since."""
    if failures:
        return f"finals: {counted(len(failures), 'training')} failed, the first: {failures[0]}"
    return (
        f"finals: {', '.join(sorted(lost))}: trained, but the last epoch or the checkpoint is not on disk. See to the "
        "disk of the run directory, then give the same command again."
    )
