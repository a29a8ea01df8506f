"""`raycnn doctor`: is this machine, or this cluster, fit for a search?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from raycnn.commands import resumable

UNWELL = 1


@resumable("nothing was changed")
def doctor(
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto. Default: this machine.")] = None,
    run: Annotated[Path, typer.Option(help="Where runs would lie; nodes that share it spare the network.")] = Path(
        "runs"
    ),
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images; they are not looked at without.")
    ] = None,
    name: Annotated[str, typer.Option(help="Data set in --data: cifar10, cifar100, folder.")] = "cifar10",
) -> None:
    """Look at versions, GPUs, clocks, memory, storage, data, token and network of every node; one line each.

    The exit status is 1 where something needs mending.
    """
    from raycnn.search import cluster as ray_cluster
    from raycnn.temporary import temporary_folder

    with temporary_folder() as folder:
        ray_cluster.prepare_environment(folder / "doctor.log")
        from raycnn.search.doctor import examine

        connected = ray_cluster.connect(address)
        unwell = 0
        try:
            for finding in examine(connected, run.absolute(), (name, data) if data else None):
                bad = bool(finding.mend)
                unwell += bad
                print(f"{'MEND' if bad else 'ok  '}  {finding.what}: {finding.seen}", flush=True)
                if bad:
                    print(f"      {finding.mend}", flush=True)
        finally:
            ray_cluster.disconnect()
    if unwell:
        print(f"{unwell} to mend", flush=True)
        sys.exit(UNWELL)
