"""`raycnn compare`: the scored models of one run, or of several, and which differences between them are real."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, of raycnn tune, train or score.")],
    model: Annotated[list[str] | None, typer.Option(help="Only this model (again for more). Default: all.")] = None,
) -> None:
    """Compare scored models image by image, within a run or across runs that were scored on the same images.

    A difference is real if a paired test says so after Holm's correction for all pairs: p < 0.05, and not by single
    trainings.
    """
    from raycnn.reporting.comparison import compare_runs
    from raycnn.reporting.text import measures_text

    found = compare_runs(list(dict.fromkeys(run.absolute() for run in runs)), model or [])
    for line in [*measures_text(found.measures, found.reference)[1:], *found.notes]:
        print(line)
