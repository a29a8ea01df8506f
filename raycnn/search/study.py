"""The study: one Optuna study in a journal file, the only state of a search.

Trial 0 is the untuned baseline. What was running when a search died waits again on opening and goes on from its own
checkpoint. One writer: whoever holds the run directory's lock.
"""

import contextlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from raycnn.errors import SpecError
from raycnn.run_files import read_spec
from raycnn.search.journal import (
    EARLIER,
    FINISHED,
    JOURNAL,
    PASSED_OVER,
    begun,
    directories_of_trials,
    experimental,
    of_search,
    open_storage,
    read_trials,
)
from raycnn.search.samplers import WANT_ALL, distribution, make_sampler
from raycnn.search.seeds import derived_seed
from raycnn.spec.constraints import Constraint, parse
from raycnn.spec.reading import read_recipe, trial_spec
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import Parameter, active, grid, parameters, point_of, resolve
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec

MOST_DRAWS = 100  # in a row that may be passed over


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial to run. `kind`: "baseline" or "search"."""

    number: int
    kind: str
    spec: TrialSpec
    parameters: dict[str, Any]


class Study:
    """Ask, record, finish; see the module. Not safe for two writers.

    earlier: run directories whose complete trials the sampler shall know from the start; they are not part of this
    search. Raises SpecError where a start or an earlier run does not fit the space.
    """

    def __init__(self, directory: Path, spec: SearchSpec, earlier: Sequence[Path] = ()) -> None:
        self._directory, self._search = directory, spec
        self._storage = open_storage(directory / JOURNAL)
        if studies := self._storage.get_all_studies():  # opening must not write: a finished run stays as it is
            trials = self._storage.get_all_trials(studies[0]._study_id, deepcopy=False)
            known = {trial.user_attrs.get("run") for trial in trials}
            if new := [run for run in earlier if str(run) not in known]:
                raise SpecError(f"--from {new[0]}: {directory} has begun without it. Give another --run.")
        else:
            first = [point_from(recipe, spec) for recipe in spec.search.start]
            known_before = [trial for run in earlier for trial in earlier_trials(run, spec)]
            created = optuna.create_study(
                storage=self._storage, study_name=spec.name, directions=["minimize" for _ in spec.search.objectives]
            )
            with experimental():
                created.set_metric_names(list(spec.search.objectives))
            created.enqueue_trial({}, user_attrs={"kind": "baseline"})  # number 0
            for point in first:
                created.enqueue_trial(point)
            created.add_trials(known_before)
        self._study = _SeenBySamplers(study_name=spec.name, storage=self._storage)
        everything = self._all_trials()
        self._study.sampler = make_sampler(spec, len(everything) - 1)
        self._constraints = [parse(text) for text in spec.search.constraints]
        self._grid = self._points_left(everything) if spec.search.sampler == "grid" else None
        for trial in everything:
            if trial.state == TrialState.RUNNING:
                # The public interface cannot put a trial back; the storage's own method can.
                self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        self._running: dict[int, optuna.Trial] = {}
        self._settings: dict[int, str] = {}  # of trials, by number, for what is asked for twice
        self.exhausted = ""
        self.notes: list[str] = []
        told = begun(everything)
        for number in directories_of_trials(directory):
            if number not in told:
                self._set_aside(number)

    def _set_aside(self, number: int) -> None:
        """Keep, under another name, the directory of a trial that the study does not know to have begun, as after its
        machine was lost, or the journal's end: another trial will have its number."""
        directory = directories_of_trials(self._directory).get(number)
        if directory:
            count = sum(1 for _ in directory.parent.glob(f"before-*-{number}"))
            aside = directory.rename(directory.with_name(f"before-{count}-{number}"))
            self.notes.append(f"{directory}: {JOURNAL} knows of no such trial; it is kept as {aside.name}")

    def trials(self) -> list[FrozenTrial]:
        """All trials of this search so far, by number."""
        return of_search(self._all_trials())

    def _all_trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study._study_id, deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if trial.state in FINISHED]

    def ask(self) -> Asked | None:
        """The next trial: one that waits to go on, else a new one; None when enough are finished or running.

        What breaks a constraint, or was asked for before, is marked and passed over. None also where nothing new is
        found; `exhausted` then says so. Raises SpecError where hardly anything keeps the constraints.
        """
        broken = 0
        for _ in range(MOST_DRAWS):
            trials = self.trials()
            busy = [trial for trial in trials if trial.state in (*FINISHED, TrialState.RUNNING)]
            if len(busy) >= self._search.search.trials:
                return None
            trial = self._study.ask()
            stored = self._storage.get_trial(trial._trial_id)
            if "spec" in stored.user_attrs:  # as it was begun, whatever has changed since in how trials are trained
                before = TrialSpec.model_validate_json(stored.user_attrs["spec"])
                taken = active(self._search.space, stored.params)
                self._running[trial.number] = trial
                return Asked(trial.number, stored.user_attrs["kind"], before, taken)
            if trial.number == 0:
                asked = Asked(0, "baseline", baseline_spec(self._search), {})
            else:
                values = self._values(trial)
                if values is None:
                    self._pass_over(trial, "the grid has no further point")
                    self.exhausted = "every point of the grid has been asked for"
                    return None
                taken = active(self._search.space, values)
                resolved = resolve(self._search.space, lambda name, _, values=values: values[name])
                seed = derived_seed(self._search.search.seed, f"trial {trial.number}")
                asked = Asked(trial.number, "search", trial_spec(self._search, resolved, seed=seed), taken)
                if reason := self._refusal(asked, trials):
                    broken += "constraint" in reason
                    self._pass_over(trial, reason)
                    continue
            self._set_aside(trial.number)
            trial.set_user_attr("kind", asked.kind)
            trial.set_user_attr("spec", asked.spec.model_dump_json())
            self._running[trial.number] = trial
            return asked
        if broken >= MOST_DRAWS:
            raise SpecError(
                f"search.constraints: {MOST_DRAWS} settings in a row broke one. Narrow the ranges, or relax it."
            )
        self.exhausted = f"{MOST_DRAWS} settings in a row had been asked for before: the space is used up"
        return None

    def _values(self, trial: optuna.Trial) -> dict[str, Any] | None:
        """A value for each parameter that the sampler is asked for; None where the grid has ended."""
        stored = self._storage.get_trial(trial._trial_id)
        if self._grid is not None and "fixed_params" not in stored.system_attrs:
            with contextlib.suppress(KeyError):  # the whole point of a search that was killed just now
                resolve(self._search.space, lambda name, _: stored.params[name])
                return stored.params
            point = next(self._grid, None)
            if point is None:
                return None
            forms = {named.name: named.parameter for named in parameters(self._search.space)}
            for name, value in point.items():
                self._storage.set_trial_param(
                    trial._trial_id, name, distribution(forms[name]).to_internal_repr(value), distribution(forms[name])
                )
            return point
        if self._search.search.sampler in WANT_ALL:
            # Those of branches that are not taken count for nothing, but the sampler's model wants whole vectors.
            return {n.name: trial._suggest(n.name, distribution(n.parameter)) for n in parameters(self._search.space)}
        asked: dict[str, Any] = {}

        def suggest(name: str, form: Parameter) -> Any:
            asked[name] = trial._suggest(name, distribution(form))
            return asked[name]

        resolve(self._search.space, suggest)
        return asked

    def _points_left(self, known: list[FrozenTrial]) -> Iterator[dict[str, Any]]:
        """Those of the grid that keep the constraints and that no trial has."""
        had = {frozenset(trial.params.items()) for trial in known}
        for point in grid(self._search.space):
            if frozenset(point.items()) not in had and all(_holds(one, point) for one in self._constraints):
                yield point

    def _refusal(self, asked: Asked, trials: list[FrozenTrial]) -> str:
        """Why a setting is not trained; empty if it is."""
        for constraint in self._constraints:
            if not _holds(constraint, asked.parameters):
                return f"breaks the constraint {constraint.text}"
        own = _setting(asked.spec.model_dump_json())
        for trial in trials:
            if trial.number not in self._settings and "spec" in trial.user_attrs:
                self._settings[trial.number] = _setting(trial.user_attrs["spec"])
        same = [number for number, setting in self._settings.items() if setting == own and number != asked.number]
        return f"is the setting of trial {same[0]}" if same else ""

    def _pass_over(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("kind", PASSED_OVER)
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def record_rung(self, number: int, epoch: int, metrics: dict[str, float]) -> None:
        """Keep a trial's metrics at a rung."""
        self._running[number].set_user_attr(f"rung:{epoch}", metrics)

    def rung(self, epoch: int, metrics: Sequence[str]) -> dict[int, tuple[float, ...]]:
        """The values of `metrics` that trials had at a rung, by trial number; of those that had them all."""
        found = {}
        for trial in self.trials():
            at_rung = trial.user_attrs.get(f"rung:{epoch}", {})
            if all(metric in at_rung for metric in metrics):
                found[trial.number] = tuple(at_rung[metric] for metric in metrics)
        return found

    def complete(self, number: int, metrics: dict[str, float], spent: dict[str, Any]) -> None:
        """The trial ran to its end. `metrics` holds every objective; `spent`: epochs, images, seconds, and the metrics
        of its repeats."""
        values = [metrics[objective] for objective in self._search.search.objectives]
        self._finish(number, TrialState.COMPLETE, metrics, spent, values)

    def prune(self, number: int, metrics: dict[str, float], spent: dict[str, Any]) -> None:
        """The scheduler stopped the trial."""
        self._finish(number, TrialState.PRUNED, metrics, spent)

    def fail(self, number: int, reason: str, metrics: dict[str, float], spent: dict[str, Any]) -> None:
        """The trial failed, for `reason` on one line."""
        self._running[number].set_user_attr("reason", reason)
        self._finish(number, TrialState.FAIL, metrics, spent)

    def _finish(
        self,
        number: int,
        state: TrialState,
        metrics: dict[str, float],
        spent: dict[str, Any],
        values: list[float] | None = None,
    ) -> None:
        trial = self._running.pop(number)
        trial.set_user_attr("metrics", metrics)
        for name, value in spent.items():
            trial.set_user_attr(name, value)
        self._study.tell(trial, values, state=state)


def _holds(constraint: Constraint, values: dict[str, Any]) -> bool:
    try:
        return constraint.holds(values)
    except ValueError as error:
        raise SpecError(f"search.constraints: {error}. Rewrite it.") from None


def _setting(spec_json: str) -> str:
    """What makes a training what it is, but for its seed."""
    tree = json.loads(spec_json)
    tree.pop("seed", None)
    return json.dumps(tree, sort_keys=True)


def point_from(recipe: Path, spec: SearchSpec) -> dict[str, Any]:
    """The values of the space's parameters that give a recipe's setting. Raises SpecError where there are none."""
    tree = read_recipe(recipe).training.model_dump()
    tree["optimizer"] = {name: values for name, values in tree["optimizer"].items() if values is not None}
    try:
        return point_of(spec.space, {key: tree[key] for key in ("regularizers", "optimizer", "schedule")})
    except ValueError as error:
        raise SpecError(f"search.start: {recipe}: {error}. Widen the space, or leave the recipe out.") from None


def earlier_trials(run: Path, spec: SearchSpec) -> list[FrozenTrial]:
    """The complete trials of another run, for the sampler to learn from. Raises SpecError where they do not fit."""
    if not (run / JOURNAL).exists():
        raise SpecError(f"--from {run}: holds no search ({JOURNAL}). Give the directory of a run.")
    before = read_spec(run)
    if before.search.objectives != spec.search.objectives:
        raise SpecError(f"--from {run}: has other objectives ({', '.join(before.search.objectives)}). Take the same.")
    forms = {named.name: distribution(named.parameter) for named in parameters(spec.space)}
    found = []
    for trial in read_trials(run):
        if trial.state != TrialState.COMPLETE or not trial.params or not trial.params.keys() <= forms.keys():
            continue
        try:
            found.append(
                optuna.trial.create_trial(
                    params=trial.params,
                    distributions={name: forms[name] for name in trial.params},
                    values=trial.values,
                    user_attrs={"kind": EARLIER, "run": str(run), "earlier_number": trial.number},
                )
            )
        except ValueError:
            continue  # a value beyond this search's ranges
    if not found:
        raise SpecError(f"--from {run}: no complete trial lies in this search's space. Leave it out.")
    return found


def baseline_spec(spec: SearchSpec) -> TrialSpec:
    """The untuned baseline: crop and flip, no further regularizer, the published optimizer.

    SGD, Nesterov momentum 0.9, weight decay 5e-4, learning rate 0.1 for a batch of 128 (Zagoruyko & Komodakis 2016,
    arXiv:1605.07146, section 3), scaled linearly with the batch (Goyal et al. 2017, arXiv:1706.02677).
    """
    published = Sgd(lr=0.1 * spec.budget.batch_size / 128, momentum=0.9, weight_decay=5e-4, nesterov=True)
    optimizer = spec.baseline or Optimizer(sgd=published)
    return trial_spec(spec, {"optimizer": optimizer}, seed=derived_seed(spec.search.seed, "trial 0"))


class _SeenBySamplers(optuna.Study):
    """Without the baseline once it has finished: gp, nsgaii and cmaes would model none of what it lacks."""

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found = super()._get_trials(deepcopy=deepcopy, states=states, use_cache=use_cache)
        return [trial for trial in found if trial.params or not trial.state.is_finished()]
