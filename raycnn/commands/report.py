"""`raycnn report`: make a run's tables and report again."""

from pathlib import Path
from typing import Annotated

import typer

from raycnn.errors import DataError


def report(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Write trials.parquet and report.html of a run again, from what its directory holds."""
    from raycnn.reporting.page import write_report
    from raycnn.search.table import write_trials

    if not (run / "study.journal").exists():
        raise DataError(f"{run}: holds no search (no study.journal). Give the directory of a run.")
    write_trials(run)
    print(write_report(run))
