"""The study: one Optuna study in a journal file, the only state of a search.

Trial 0 is the untuned baseline. What was running when a search died waits again on opening and goes on from its own
checkpoint. One writer: whoever holds the run directory's lock.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raycnn.spec.reading import trial_spec
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import FloatRange, IntRange, Parameter, resolve
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec

JOURNAL = "study.journal"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial to run. `kind`: "baseline" or "search"."""

    number: int
    kind: str
    spec: TrialSpec
    parameters: dict[str, Any]


class Study:
    """Ask, record, finish; see the module. Not safe for two writers."""

    def __init__(self, directory: Path, spec: SearchSpec) -> None:
        self._search = spec
        self._storage = open_storage(directory / JOURNAL)
        if self._storage.get_all_studies():  # opening must not write: a finished run stays as it is
            self._study = optuna.load_study(study_name=spec.name, storage=self._storage)
        else:
            self._study = optuna.create_study(
                storage=self._storage, study_name=spec.name, directions=["minimize" for _ in spec.search.objectives]
            )
        known = self.trials()
        if not known:
            with _experimental():
                self._study.set_metric_names(list(spec.search.objectives))
        self._study.sampler = _sampler(spec, len(known))
        for trial in known:
            if trial.state == TrialState.RUNNING:
                # The public interface cannot put a trial back; the storage's own method can.
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._running: dict[int, optuna.Trial] = {}

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number."""
        return self._study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state in FINISHED]

    def ask(self) -> Asked | None:
        """The next trial: one that waits to go on, else a new one; None when enough are finished or running."""
        trials = self.trials()
        busy = [trial for trial in trials if trial.state in (*FINISHED, TrialState.RUNNING)]
        if len(busy) >= self._search.search.trials:
            return None
        trial = self._study.ask()
        self._running[trial.number] = trial
        if trial.number == 0:
            asked = Asked(0, "baseline", baseline_spec(self._search), {})
        else:
            values = resolve(self._search.space, lambda name, form: trial._suggest(name, distribution(form)))
            spec = trial_spec(
                self._search, values, seed=derived_seed(self._search.search.seed, f"trial {trial.number}")
            )
            asked = Asked(trial.number, "search", spec, trial.params)
        trial.set_user_attr("kind", asked.kind)
        trial.set_user_attr("spec", asked.spec.model_dump_json())
        return asked

    def record_rung(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        """Keep a trial's metrics at a rung."""
        self._running[number].set_user_attr(f"rung:{epoch}", metrics)

    def rung(self, epoch: int, metric: str) -> dict[int, float]:
        """The values of `metric` that trials had at a rung, by trial number."""
        values = {trial.number: trial.user_attrs.get(f"rung:{epoch}", {}).get(metric) for trial in self.trials()}
        return {number: value for number, value in values.items() if value is not None}

    def complete(self, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        """The trial ran to its end. `metrics` holds every objective; `spent`: epochs, images, seconds."""
        values = [metrics[objective] for objective in self._search.search.objectives]
        self._finish(number, TrialState.COMPLETE, metrics, spent, values)

    def prune(self, number: int, metrics: dict[str, float], spent: dict[str, float]) -> None:
        """The scheduler stopped the trial."""
        self._finish(number, TrialState.PRUNED, metrics, spent)

    def fail(self, number: int, reason: str, metrics: dict[str, float], spent: dict[str, float]) -> None:
        """The trial failed, for `reason` on one line."""
        self._running[number].set_user_attr("reason", reason)
        self._finish(number, TrialState.FAIL, metrics, spent)

    def _finish(
        self,
        number: int,
        state: TrialState,
        metrics: dict[str, float],
        spent: dict[str, float],
        values: list[float] | None = None,
    ) -> None:
        trial = self._running.pop(number)
        trial.set_user_attr("metrics", metrics)
        for name, value in spent.items():
            trial.set_user_attr(name, value)
        self._study.tell(trial, values, state=state)


def open_storage(journal: Path) -> JournalStorage:
    """The journal's storage, after mending what a killed writer may have left: half a line, a lock."""
    _cut_torn_line(journal)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    with _experimental():
        return JournalStorage(JournalFileBackend(str(journal)))


def read_trials(directory: Path) -> list[FrozenTrial]:
    """The trials of a run directory, without changing it. An empty list where there is no study."""
    journal = directory / JOURNAL
    if not journal.exists():
        return []
    with _experimental():
        storage = JournalStorage(JournalFileBackend(str(journal)))
    studies = storage.get_all_studies()
    return storage.get_all_trials(studies[0]._study_id) if studies else []


def baseline_spec(spec: SearchSpec) -> TrialSpec:
    """The untuned baseline: crop and flip, no further regularizer, the published optimizer.

    SGD, Nesterov momentum 0.9, weight decay 5e-4, learning rate 0.1 for a batch of 128 (Zagoruyko & Komodakis 2016,
    arXiv:1605.07146, section 3), scaled linearly with the batch (Goyal et al. 2017, arXiv:1706.02677).
    """
    published = Sgd(lr=0.1 * spec.budget.batch_size / 128, momentum=0.9, weight_decay=5e-4, nesterov=True)
    optimizer = spec.baseline or Optimizer(sgd=published)
    return trial_spec(spec, {"optimizer": optimizer}, seed=derived_seed(spec.search.seed, "trial 0"))


def derived_seed(seed: int, purpose: str) -> int:
    """One number for each purpose, all from the search's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


def distribution(form: Parameter) -> BaseDistribution:
    """Optuna's form of a parameter."""
    if isinstance(form, FloatRange):
        return FloatDistribution(form.low, form.high, log=form.log, step=form.step)
    if isinstance(form, IntRange):
        return IntDistribution(form.low, form.high, log=form.log, step=form.step)
    return CategoricalDistribution(form.choice)


def _sampler(spec: SearchSpec, trials_so_far: int) -> optuna.samplers.BaseSampler:
    # A resumed search goes on with other random numbers, or it would ask for its first trials again.
    seed = derived_seed(spec.search.seed, f"sampler from trial {trials_so_far}")
    if spec.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with _experimental():
        return optuna.samplers.TPESampler(
            n_startup_trials=spec.search.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        )


@contextlib.contextmanager
def _experimental() -> Iterator[None]:
    """Optuna warns of parts that may change; the pinned version's were tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _cut_torn_line(journal: Path) -> None:
    """Changes the file: drops an unfinished last line, whose record its writer never saw succeed."""
    if not journal.exists():
        return
    with journal.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
