"""`raycnn tune`: search, finals, scoring and report; or what they would be (--dry-run)."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from raycnn.commands import resumable
from raycnn.errors import RaycnnError, SpecError
from raycnn.invocation import command
from raycnn.search.mirror import working_directory
from raycnn.spec.reading import read_search
from raycnn.spec.search import Finals, SearchSpec
from raycnn.spec.space import FloatRange, IntRange, parameters
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; start nothing.")] = False,
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
    flags = {} if trials is None else {"--trials": f"search.trials={trials}"}
    spec = read_search(space, set_ or [], flags)
    from raycnn.data.remote import full_place

    uri = run if run and is_uri(run) else None
    directory = (working_directory(uri) if uri else Path(run or f"runs/{spec.name}")).absolute()
    place = full_place(data) if data else None
    if dry_run:
        _describe(spec, directory, place, address)
        return
    earlier = tuple(path.absolute() for path in from_ or ())
    _search(spec, directory, place, address, earlier, _seconds(time_budget) if time_budget else None, uri)


def _seconds(text: str) -> float:
    """Of "90s", "90m", "1.5h" or "2d"."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([smhd])", text.strip())
    if not found or not float(found[1]):
        raise SpecError(f"--time-budget {text}: is no time. Write it as 90m or 2h.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _search(
    spec: SearchSpec,
    directory: Path,
    place: str | None,
    address: str | None,
    earlier: tuple[Path, ...],
    time_budget_s: float | None,
    uri: str | None,
) -> None:
    from raycnn.console import Console
    from raycnn.search.run import Request, run_search

    console = Console()
    with contextlib.closing(console):
        report = run_search(Request(spec, directory, place, address, earlier, time_budget_s, uri), console)
    print(f"Report: {report}")


def _describe(spec: SearchSpec, directory: Path, place: str | None, address: str | None) -> None:
    """Print the resolved spec, distributions, resources, concurrency and images; start nothing. A model of the user's
    own is built, for that may be what fails."""
    from ruamel.yaml import YAML

    from raycnn import models
    from raycnn.data.remote import directory_of
    from raycnn.models.trust import trust
    from raycnn.search.estimate import estimate
    from raycnn.search.resources import slot_count, slot_shape

    trust([spec.model])  # the user has just named it
    models.check(spec.model, spec.data.side_px)
    resources = _resources(address, spec)
    shape = slot_shape(spec.trainer, resources)
    text = io.StringIO()
    YAML().dump(json.loads(spec.model_dump_json(exclude_none=True)), text)
    print(f"# The resolved specification\n{text.getvalue()}")
    print("# Distributions")
    for named in parameters(spec.space):
        where = "".join(f"  if {parent} is {branch}" for parent, branch in named.condition[-1:])
        print(f"{named.name:32} {_distribution(named.parameter)}{where}")
    slots = min(slot_count(spec.trainer, shape, resources), spec.search.trials)
    print("\n# Data")
    print("\n".join(_data(spec, place)))
    print("\n# Resources")
    print(f"found               {resources.words()}")
    print(f"one trial           {shape.workers} worker(s), each {shape.cpus:g} CPUs, {shape.gpus:g} GPUs")
    print(f"concurrent trials   {slots}")
    images = estimate(spec, directory_of(place))
    if images:
        print(
            f"images to train     about {images.likely:,} in the search, at most {images.most:,}; "
            f"{images.finals:,} in the finals"
        )
    else:
        print("images to train     unknown until the folder is read")
    resumed = " (exists: would be resumed)" if (directory / "study.journal").exists() else ""
    print(f"run directory       {directory}{resumed}")


def _data(spec: SearchSpec, place: str | None) -> list[str]:
    """What of the data is there, and what the search would stop for."""
    from raycnn.data import folder
    from raycnn.data.cifar import is_complete
    from raycnn.data.remote import directory_of
    from raycnn.data.sources import place_of
    from raycnn.robustness.units import benchmark_directories

    if place and is_uri(place):
        return [f"what is needed of {place} is copied at the start"]
    name, root = spec.data.name, directory_of(place)
    home = place_of(root or spec.data.root)
    if name == "shapes":
        lines = ["shapes              generated"]
    elif name == "folder":
        try:
            tree = folder.survey(home)
            lines = [f"{name:19} {home}: {', '.join(tree.class_names)}"]
            lines += [f"left out            {tree.left_out}"] if tree.left_out else []
        except (RaycnnError, OSError) as error:
            lines = [f"MISSING             {error}"]
    elif is_complete(name, home):
        lines = [f"{name:19} {home}"]
    else:
        lines = [f"{name:19} not in {home}; {'downloaded at the start' if spec.data.verify else 'MISSING'}"]
    if isinstance(spec.finals, Finals):
        try:
            found = benchmark_directories(spec.finals, spec.data, root)
            lines += [f"{score:19} {directory}" for score, directory in found.items()]
        except RaycnnError as error:
            lines += [f"MISSING             {line}" for line in str(error).splitlines()]
    return lines


def _resources(address: str | None, spec: SearchSpec) -> Any:
    from raycnn.search.resources import cluster_resources, local_resources

    if address is None:
        return local_resources()
    from raycnn.search.cluster import connect, disconnect

    connect(address)
    try:
        return cluster_resources(spec.trainer)
    finally:
        disconnect()


def _distribution(form: Any) -> str:
    if isinstance(form, FloatRange | IntRange):
        step = f", step {form.step:g}" if form.step not in (None, 1) else ""
        return f"{form.type} from {form.low:g} to {form.high:g}{', log' if form.log else ''}{step}"
    return f"one of {', '.join(map(str, form.choice))}"
