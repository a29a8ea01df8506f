"""`raycnn tune`: search, finals, scoring and report; or what they would be (--dry-run)."""

import contextlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from raycnn.commands import resumable
from raycnn.errors import SpecError
from raycnn.invocation import command
from raycnn.search.mirror import working_directory
from raycnn.spec.reading import read_search
from raycnn.storage import is_uri


@resumable("nothing finished is lost")
def tune(
    space: Annotated[Path | None, typer.Argument(help="Search space file (YAML).", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images; a directory is downloaded to, if need be.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Run directory or URI; an existing one is resumed. Default: runs/NAME.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Finished trials wished, the baseline among them.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the file's.")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto. Default: this machine.")] = None,
    from_: Annotated[
        list[Path] | None, typer.Option("--from", help="Run directory from whose trials the sampler learns.")
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="For the trials, as 90m or 2h: one that would end later is not started.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and what would stop it; start nothing.")
    ] = False,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="MACHINES",
            help="With --dry-run: plan for 8xGPU, 4x8xGPU (four nodes with eight each) or 16xCPU.",
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of search space files.")] = False,
) -> None:
    """Search jointly over regularizers and optimizer, retrain the finalists, score their robustness, write a report.

    The same command on the same run directory goes on where it was stopped.
    """
    if schema:
        from raycnn.spec.schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return
    if space is None:
        raise SpecError(f"SPACE.yaml is missing. Start with: {command('tune', 'search_spaces/quickstart.yaml')}")
    if for_ and not dry_run:
        raise SpecError(f"--for {for_}: is for --dry-run alone. Add --dry-run, or leave it out.")
    if for_ and address:
        raise SpecError(f"--for {for_}: plans without the cluster of --address. Leave one of them out.")
    flags = {} if trials is None else {"--trials": f"search.trials={trials}"}
    spec = read_search(space, set_ or [], flags)
    from raycnn.data.remote import full_place
    from raycnn.search.run import Request

    uri = run if run and is_uri(run) else None
    directory = (working_directory(uri) if uri else Path(run or f"runs/{spec.name}")).absolute()
    place = full_place(data) if data else None
    earlier = tuple(path.absolute() for path in from_ or ())
    budget_s = _seconds(time_budget) if time_budget else None
    request = Request(spec, directory, place, address, earlier, budget_s, uri)
    if dry_run:
        from raycnn.commands.dry_run import describe

        describe(request, for_)
    else:
        _search(request)


def _seconds(text: str) -> float:
    """Of "90s", "90m", "1.5h" or "2d"."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([smhd])", text.strip())
    if not found or not float(found[1]):
        raise SpecError(f"--time-budget {text}: is no time. Write it as 90m or 2h.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _search(request: Any) -> None:
    from raycnn.console import Console
    from raycnn.search.run import run_search

    console = Console()
    with contextlib.closing(console):
        report = run_search(request, console)
    print(f"Report: {report}")
