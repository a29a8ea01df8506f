"""`raycnn ablate`: what each regularizer adds at the optimum, alone and beside the others."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from raycnn.commands import resumable
from raycnn.commands.trusting import HELP, trust_run
from raycnn.errors import DataError


@resumable("nothing finished is lost")
def ablate(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images. Default: as in the search.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each cell.")] = 3,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto. Default: this machine.")] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help=HELP)] = False,
) -> None:
    """Retrain the first finalist with cutout, mixup and rotation prediction on and off in all combinations.

    Prints the main effects and interactions on every score, with intervals. The same command resumes.
    """
    trust_run(run.absolute(), trust_model)
    from raycnn.console import Console
    from raycnn.reporting.text import effects_text
    from raycnn.search.ablation import ablate as train_and_score
    from raycnn.search.ablation import effects

    if not (run / "study.journal").exists():
        raise DataError(f"{run}: holds no search (no study.journal). Give the directory of a run.")
    console = Console()
    with contextlib.closing(console):
        folder = train_and_score(run.absolute(), data, address, seeds, console)
    print("\n".join(effects_text(effects(folder))))
