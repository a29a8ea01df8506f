"""The Tune Searcher over the study: Tune asks it for trials and tells it results; the study keeps them."""

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher

from raycnn.search.observer import Observer, TrialLine
from raycnn.search.study import Asked, Study
from raycnn.spec.search import Finals, SearchSpec


@dataclass(slots=True)
class _Running:
    asked: Asked
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    images: int = 0
    seconds: float = 0.0
    outcome: str = ""
    reason: str = ""
    repeats: list[dict[str, float]] = field(default_factory=list)  # last metrics of each training


class StudySearcher(Searcher):
    """`slots()` is how many trials may run now. deadline_s: of time.monotonic(); None: there is no hurry."""

    def __init__(
        self,
        study: Study,
        spec: SearchSpec,
        slots: Callable[[], int],
        observer: Observer,
        deadline_s: float | None = None,
    ) -> None:
        super().__init__()
        self._deadline_s, self._late = deadline_s, False
        self._study, self._spec, self._slots, self._observer = study, spec, slots, observer
        self._running: dict[str, _Running] = {}
        self.interrupted = False
        self.hopeless = ""  # why no slot is left
        self._told = False
        self._noted: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        if self.hopeless:
            return Searcher.FINISHED
        if len(self._running) >= self._slots():
            return None  # Tune asks again later
        asked = None if self._too_late() else self._study.ask()
        while self._study.notes:
            self._observer.warning(self._study.notes.pop(0))
        if asked is None and self._study.exhausted and not self._told:
            self._told = True
            self._observer.warning(f"no further trial: {self._study.exhausted}")
        if asked is None:
            # What runs may still be joined by a trial that waits; Tune ends when nothing runs and this says finished.
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = _Running(asked)
        self._observer.trial_started(asked.number, "untuned baseline" if asked.kind == "baseline" else "")
        return {"number": asked.number, "spec": asked.spec.model_dump_json(), **asked.parameters}

    def _too_late(self) -> bool:
        """Whether a trial that starts now would not end in time, as long as those took that have run to their end."""
        if self._deadline_s is None or self._late:
            return self._late
        took = [t.user_attrs.get("seconds", 0.0) for t in self._study.trials() if t.state == TrialState.COMPLETE]
        expected = statistics.median(took) if took else 0.0
        self._late = time.monotonic() + expected > self._deadline_s
        if self._late:
            self._observer.warning(f"time budget: a further trial, of about {expected:.0f} s, would not end in time")
        return self._late

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        running = self._running[trial_id]
        if "outcome" in result:
            if running.outcome:
                return  # Tune hands a trial's last result in again when it ends
            running.outcome, running.reason = result["outcome"], result["reason"]
            running.repeats = json.loads(result["repeats"])
            running.seconds += result["train/seconds"]
            if len(running.repeats) > 1:
                running.metrics.update(_means(running.repeats))
        elif result["epoch"] > running.epoch:  # Tune hands a trial's last result in again when it ends
            running.epoch, running.images = result["epoch"], result["images"]
            running.seconds += result["train/seconds"]
            new = {name: value for name, value in result.items() if name.startswith(("val/", "cost/"))}
            running.metrics.update(new)
            if (note := result.get("note")) and note not in self._noted:
                self._noted.add(note)  # what is the same in many trials is told once
                self._observer.warning(f"trial {running.asked.number}: {note}")
            self._observer.trial_progress(running.asked.number, running.epoch, self._spec.budget.epochs, new)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self.interrupted or self.hopeless:
            return  # it stays RUNNING in the study, and goes on when the search is resumed
        if result and "epoch" in result:
            self.on_trial_result(trial_id, result)  # the one on which the scheduler stopped it was not told
        running = self._running.pop(trial_id)
        if running.outcome == "stopped" and running.reason:
            self.hopeless = running.reason
            return
        number, metrics = running.asked.number, running.metrics
        spent: dict[str, Any] = {
            "epochs": running.epoch,
            "images": running.images * max(1, len(running.repeats)),
            "seconds": round(running.seconds, 3),
        }
        if len(running.repeats) > 1:
            spent["repeats"] = running.repeats
        if running.outcome == "done" and all(
            math.isfinite(metrics.get(o, math.nan)) for o in self._spec.search.objectives
        ):
            state = "COMPLETE"
            self._study.complete(number, metrics, spent)
        elif running.outcome in ("done", "failed") or error:
            state = "FAIL"
            running.reason = running.reason or ("its Tune actor died" if error else "an objective is not a number")
            self._study.fail(number, running.reason, metrics, spent)
            if running.asked.kind == "baseline":
                self._observer.warning(
                    f"the untuned baseline failed: {running.reason.rstrip('.')}. The search goes on"
                    + (
                        "; the finals try it again, and without it compare nothing with it"
                        if isinstance(self._spec.finals, Finals)
                        else ""
                    )
                )
        else:
            state = "PRUNED"
            self._study.prune(number, metrics, spent)
        self._observer.trial_finished(
            TrialLine(
                number=number,
                kind=running.asked.kind,
                state=state,
                objectives={o: metrics.get(o) for o in self._spec.search.objectives},
                epochs=running.epoch,
                epochs_wished=self._spec.budget.epochs,
                seconds=running.seconds,
                parameters=running.asked.parameters,
                reason=running.reason or None,
                done=len(self._study.finished()),
                wished=self._spec.search.trials,
            )
        )

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _means(repeats: list[dict[str, float]]) -> dict[str, float]:
    names = set.intersection(*map(set, repeats))
    return {name: statistics.fmean(one[name] for one in repeats) for name in names}
