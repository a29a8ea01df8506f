"""`raycnn export`: a trained model to take away."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from raycnn.commands.trusting import HELP, trust_run


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    model: Annotated[
        str | None, typer.Option(help="baseline, trial-007, …. Default: the finalist that the report speaks of.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which of its trainings, by number.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: export in the run directory.")] = None,
    trust_model: Annotated[bool, typer.Option("--trust-model", help=HELP)] = False,
) -> None:
    """Write a model as safetensors, as a torch.export program with its normalisation inside, and with a model card."""
    trust_run(run, trust_model)
    from raycnn.reporting.export import export as write

    warn = partial(print, "warning:", file=sys.stderr)
    for path in write(run.absolute(), model, seed, (out or run / "export").absolute(), warn):
        print(path)
