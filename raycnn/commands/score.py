"""`raycnn score`: score the finalists of a run, or networks from elsewhere."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raycnn.commands import resumable
from raycnn.commands.trusting import HELP, trust_checkpoint, trust_run
from raycnn.errors import DataError, SpecError
from raycnn.models.trust import trust
from raycnn.storage import is_uri

Which = Literal["raw", "ema"]  # as in robustness.foreign_weights, which takes long to import


@resumable("what is scored is kept")
def score(
    run: Annotated[Path, typer.Argument(help="Run directory with trained finals; with --model, where scores go.")],
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the test images. Default: as in the search.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto. Default: this machine.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]package.module:factory[@WEIGHTS], or a checkpoint of raycnn; again for more."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With --model: data.*, scoring.*, mean, std. key.path=value.")
    ] = None,
    imagenet_c: Annotated[
        Path | None, typer.Option(help="With --model: score on these pictures of ImageNet-C alone.")
    ] = None,
    weights: Annotated[
        Which | None, typer.Option(help="With --model: of a file that holds both, those trained, or their average.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="With --model: take logarithms of what is no logits.")
    ] = False,
    device: Annotated[str, typer.Option(help="With --model: cpu, cuda, or auto.")] = "auto",
    trust_model: Annotated[bool, typer.Option("--trust-model", help=HELP)] = False,
    trusted: Annotated[list[str] | None, typer.Option(hidden=True, help="What the search trusts, for its job.")] = None,
    plain: Annotated[bool, typer.Option("--plain", hidden=True, help="Mark each line, for the log of a job.")] = False,
) -> None:
    """Score a run's finalists and baseline on the sets that its search names, and write its report again.

    With --model, score networks that were trained elsewhere, in this process. Scores go to robustness.parquet; what is
    there already is not scored again. The test images are opened by nobody else.
    """
    run = run.absolute()
    if model:
        how = {"which": weights, "probabilities": probabilities}
        _score_elsewhere(run, model, set_ or [], data, imagenet_c, device, trust_model, how)
        return
    if set_ or imagenet_c or device != "auto" or weights or probabilities:
        raise SpecError(
            "--set, --imagenet-c, --weights, --probabilities and --device go with --model. A search's own finals are "
            "scored on what it names: give its command again, with --set 'finals.score=[…]'."
        )
    trust(trusted or [])
    trust_run(run, trust_model)
    from raycnn.search import cluster
    from raycnn.search.scoring import score_run

    if not (run / "finals" / "finalists.json").exists():
        raise DataError(f"{run}: holds no trained finals (no finals/finalists.json). Search first, or give --model.")
    if not plain:
        cluster.prepare_environment(run / "raycnn.log")
    cluster.connect(address)
    try:
        path = score_run(run, data, lambda line: print(f"raycnn: {line}" if plain else line, flush=True), told=plain)
    finally:
        cluster.disconnect()
    print(f"raycnn: {path}" if plain else path)
    if not plain:  # of a search's own job the search writes it
        from raycnn.commands.report import report

        report(run)


def _score_elsewhere(
    run: Path,
    wishes: list[str],
    overrides: list[str],
    data: str | None,
    imagenet_c: Path | None,
    device: str,
    told: bool,
    how: dict[str, Any],
) -> None:
    from raycnn.commands.train import chosen_device
    from raycnn.data.remote import local_root
    from raycnn.data.sources import name_of
    from raycnn.reporting.comparison import compare_runs
    from raycnn.reporting.text import measures_text
    from raycnn.robustness.external import score_models, sources
    from raycnn.robustness.units import beside_data
    from raycnn.spec.reading import read_request

    said = any(one.startswith("data.name=") for one in overrides)
    if data and not is_uri(data) and not said and (name := name_of(Path(data))):
        overrides = [f"data.name={name}", *overrides]  # what lies there, or CIFAR-10 would be downloaded into it
    place = json.dumps(str(imagenet_c.absolute())) if imagenet_c else None  # in quotes, for YAML may read it otherwise
    request = read_request(overrides, {"--imagenet-c": f"scoring.imagenet_c={place}"} if place else {})
    found = sources(wishes)
    for source in found:
        if ":" not in source.model:
            trust_checkpoint(Path(source.model), told)
    trust([source.model for source in found])  # the user has just named them
    alone = imagenet_c is not None
    root = None if alone else local_root(data, request.data, beside_data(request.scoring))
    score_models(found, request, root, run, alone, chosen_device(device), lambda line: print(line, flush=True), **how)
    scored = compare_runs([run])
    print("\n".join(measures_text(scored.measures, found[0].key[0])))
    print(f"\n{run / 'robustness.parquet'}")
