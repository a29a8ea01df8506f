"""`raycnn watch`: the report of a run, live, in a browser."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from raycnn.errors import DataError, RaycnnError


def watch(
    run: Annotated[Path, typer.Argument(help="Run directory, of a search that runs or has ended.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1. Default: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
) -> None:
    """Show a run's report in a browser and keep it up to date while the search goes on, until Ctrl-C."""
    from raycnn.reporting.serving import ReportServer

    if not (run / "study.journal").exists():
        raise DataError(f"{run}: holds no search yet (no study.journal). Give the directory of a run that has begun.")
    try:
        server = ReportServer(run.absolute(), port)
    except OSError as error:
        raise RaycnnError(f"--port {port}: {error.strerror}. Give another, or none.") from error
    with server:
        address = f"http://127.0.0.1:{server.port}"
        print(
            f"{address}  (from elsewhere: ssh -L {server.port}:127.0.0.1:{server.port} HOST; Ctrl-C ends it)",
            flush=True,
        )
        if browser:
            webbrowser.open(address)
        server.serve_forever()
