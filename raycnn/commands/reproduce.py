"""`raycnn reproduce`: a trial trained again, and held against what it was."""

from pathlib import Path
from typing import Annotated

import typer

from raycnn.commands import resumable
from raycnn.commands.trusting import HELP, trust_run
from raycnn.errors import DataError


@resumable("the run is as it was")
def reproduce(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    trial: Annotated[int, typer.Argument(help="Number of the trial; 0 is the baseline.")],
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images. Default: as in the search.")
    ] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help=HELP)] = False,
) -> None:
    """Train a trial again in this process from what its run directory says, and compare it epoch by epoch.

    On processors it comes out bit for bit, with the same versions, as many threads and one worker; on GPUs with
    trainer.deterministic.
    """
    trust_run(run, trust_model)
    from raycnn.search.reproduction import reproduce as again

    if not (run / "study.journal").exists():
        raise DataError(f"{run}: holds no search (no study.journal). Give the directory of a run.")
    found = again(run.absolute(), trial, data, lambda line: print(line, flush=True))
    if found.alike == found.epochs:
        print(f"Reproduced: all {found.epochs} epochs are equal bit for bit.")
        return
    print(
        f"Not bit for bit: {found.epochs - found.alike} of {found.epochs} epochs differ, errors by at most "
        f"{100 * found.largest:.2f} points. The first: {found.differences[0]}"
    )
    raise typer.Exit(1)
