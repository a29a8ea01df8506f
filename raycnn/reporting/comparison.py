"""Two runs side by side: the scores of their models on the images that both were scored on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raycnn.errors import DataError
from raycnn.invocation import command
from raycnn.reporting.gaps import gaps_of_scores
from raycnn.reporting.results import read_run
from raycnn.robustness.results import Outcomes, Row, read_outcomes, read_rows
from raycnn.robustness.summary import Measure, measures, models

Set = tuple[str, str]
"""Set and name, as in robustness.parquet."""


@dataclass(frozen=True, slots=True)
class Compared:
    """measures: of all models of all runs. reference: one of the first run, which the others are set against.

    notes: sentences about what was left out, or is lost.
    """

    measures: list[Measure]
    reference: str
    notes: list[str]


def compare_runs(runs: Sequence[Path], only: Sequence[str] = ()) -> Compared:
    """The models of some runs on the images that all of them were scored on.

    Models are named "run: model" where several runs have models of one name. only: those that are wished; default: all.
    Raises DataError where a run was not scored, or no images are common to all, or `only` names none.
    """
    rows = {run: _rows(run) for run in runs}
    names = {run: models(row.model for row in of_run) for run, of_run in rows.items()}
    labels = _labels(names)
    fingerprints: dict[Path, dict[Set, set[str]]] = {run: {} for run in runs}
    tuned: set[str] = set()
    outcomes: Outcomes = {}
    notes: list[str] = []
    for run in runs:
        for row in rows[run]:
            fingerprints[run].setdefault((row.set, row.name), set()).add(row.images)
        if (run / "study.journal").exists():
            tuned |= set(read_run(run).tuned_on)
        notes += gaps_of_scores(run, rows[run], of_run := read_outcomes(run))
        for place, trainings in of_run.items():
            named = {(labels[run] + model, seed): values for (model, seed), values in trainings.items()}
            outcomes.setdefault(place, {}).update(named)
    common = {place for place in set.union(*map(set, fingerprints.values())) if _alike(place, fingerprints)}
    left_out = sorted({place for of in fingerprints.values() for place in of} - common)
    kept = {place: trainings for place, trainings in outcomes.items() if place[:2] in common}
    if not kept:
        raise DataError("the runs have no scores on the same images. Score both on the same sets, then compare.")
    if only:
        kept = _only(kept, only)
    if left_out:
        notes.append(f"Left out, as not all runs were scored on the same images: {', '.join(_sets(left_out))}.")
    return Compared(measures(kept, tuned), labels[runs[0]] + names[runs[0]][0], notes)


def _rows(run: Path) -> Sequence[Row]:
    rows = read_rows(run)
    if rows is None:
        raise DataError(f"{run}: nothing was scored there (no robustness.parquet). Run: {command('score', run)}")
    return rows


def _labels(names: Mapping[Path, Sequence[str]]) -> dict[Path, str]:
    """What stands before a model's name: nothing where all runs' models have names of their own, else the last parts of
    the runs' paths that differ."""
    if len(set().union(*names.values())) == sum(map(len, names.values())):
        return dict.fromkeys(names, "")
    parts = [run.absolute().parts for run in names]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(of_run[-depth:]) for of_run in parts]
        if len(set(labels)) == len(labels):
            return {run: f"{label}: " for run, label in zip(names, labels, strict=True)}
    raise DataError(f"{next(iter(names))} is named twice. Name different runs.")


def _alike(place: Set, fingerprints: Mapping[Path, Mapping[Set, set[str]]]) -> bool:
    """Whether all trainings of all runs were scored on the same images."""
    seen = [of.get(place, set()) for of in fingerprints.values()]
    return all(seen) and len(set.union(*seen)) == 1


def _only(outcomes: Outcomes, wished: Sequence[str]) -> Outcomes:
    known = sorted({model for trainings in outcomes.values() for model, _ in trainings})
    for name in wished:
        if name not in known:
            raise DataError(f"--model {name}: there is no such model. Choose from {', '.join(known)}.")
    found = {
        place: {key: values for key, values in trainings.items() if key[0] in wished}
        for place, trainings in outcomes.items()
    }
    return {place: trainings for place, trainings in found.items() if trainings}


def _sets(places: Sequence[Set]) -> list[str]:
    """A set with all its names in one word."""
    return list(dict.fromkeys(of if of != "clean" else "clean images" for of, _ in places))
