"""What of a run is lost, so that what is shown without it says so."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from raycnn.invocation import command
from raycnn.reporting.results import Run
from raycnn.robustness.results import OUTCOMES, RESULTS, Outcomes, Row
from raycnn.run_files import MANIFEST
from raycnn.spec.search import Finals
from raycnn.training.log import NAME


def gaps(run: Run) -> list[str]:
    """A sentence for each file of a run that is missing, or that has less than it had."""
    found = []
    if not (run.directory / MANIFEST).exists():
        found.append(
            f"{run.directory / MANIFEST} is missing: on which images, hardware and versions this rests is not known"
        )
    if run.rows is None and run.outcomes and run.manifest.finished:
        found.append(f"{run.directory / RESULTS} is missing, though models were scored. {_again(run.directory)}")
    return [*found, *_of_curves(run), *gaps_of_scores(run.directory, run.rows or (), run.outcomes)]


def gaps_of_scores(run: Path, rows: Iterable[Row], outcomes: Outcomes) -> list[str]:
    """A sentence for each file of outcomes that robustness.parquet speaks of and that has not all of them."""
    held = {(*place[:3], key) for place, of_models in outcomes.items() for key in of_models}
    lost = {(row.set, row.name) for row in rows if (row.set, row.name, row.severity, row.key) not in held}
    return [f"{run / OUTCOMES / of} lacks what {RESULTS} has of {name}. {_again(run)}" for of, name in sorted(lost)]


def _of_curves(run: Run) -> Iterator[str]:
    for trial in run.trials:
        curve = run.curves.get(trial.number)
        if not trial.repeats and (there := len(curve.epochs) if curve else 0) < trial.epochs:
            yield _lacks(run.directory / "trials" / str(trial.number) / NAME, there, trial.epochs)
    scored = {row.model for row in run.rows or ()}
    trained = (isinstance(run.spec.finals, Finals) and run.spec.finals.epochs) or run.spec.budget.epochs
    for folder in sorted(run.directory.glob("finals/*/seed-*")):
        curve = run.finals.get((folder.parent.name, folder.name))
        if folder.parent.name in scored and (there := len(curve.epochs) if curve else 0) < trained:
            yield _lacks(folder / NAME, there, trained)


def _lacks(log: Path, there: int, trained: int) -> str:
    return f"{log} has {there} of {trained} epochs, and so has the curve of that training"


def _again(run: Path) -> str:
    return f"Score again: {command('score', run)}"
