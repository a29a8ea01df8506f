"""`raycnn score`: score the finalists of a run, on this machine or a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from raycnn.errors import DataError


def score(
    run: Annotated[Path, typer.Argument(help="Run directory with trained finals.")],
    data: Annotated[Path | None, typer.Option(help="Where the test images are. Default: as in the search.")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto. Default: this machine.")] = None,
    plain: Annotated[bool, typer.Option("--plain", hidden=True, help="Mark each line, for the log of a job.")] = False,
) -> None:
    """Score a run's finalists and baseline on the sets that its search names, into robustness.parquet.

    What is in robustness.parquet already is not scored again. The test images are opened by nobody else.
    """
    from raycnn.search import cluster
    from raycnn.search.scoring import score_run

    run = run.absolute()
    if not (run / "finals" / "finalists.json").exists():
        raise DataError(f"{run}: holds no trained finals (no finals/finalists.json). Run raycnn tune first.")
    if not plain:
        cluster.prepare_environment(run / "raycnn.log")
    cluster.connect(address)
    try:
        path = score_run(run, data, lambda line: print(f"raycnn: {line}" if plain else line, flush=True))
    finally:
        cluster.disconnect()
    print(f"raycnn: {path}" if plain else path)
