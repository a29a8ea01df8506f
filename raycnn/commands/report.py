"""`raycnn report`: make a run's tables and report again."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raycnn.errors import DataError


def report(run: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Write trials.parquet and report.html of a run again, from what its directory holds."""
    from raycnn.reporting.page import write_report
    from raycnn.search.journal import lost_trials
    from raycnn.search.table import write_trials
    from raycnn.training.log import damaged_lines

    if not (run / "study.journal").exists():
        raise DataError(f"{run}: holds no search (no study.journal). Give the directory of a run.")
    write_trials(run)
    for directory in lost_trials(run):
        print(f"warning: {directory} is in no table: study.journal does not know its trial", file=sys.stderr)
    for log in sorted(run.glob("*/**/metrics.jsonl")):
        if count := damaged_lines(log):
            print(f"warning: {log}: lines that are damaged: {count}, left out of the curves", file=sys.stderr)
    print(write_report(run, partial(print, "warning:", file=sys.stderr)))
