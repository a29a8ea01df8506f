"""`raycnn train`: one training from a file, on this machine, and beside it what was published."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raycnn.commands import resumable
from raycnn.errors import SpecError
from raycnn.spec.reading import read_recipe


@resumable("finished epochs are kept")
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (YAML), such as search_spaces/recipes/cutout.yaml.")],
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images; a directory is downloaded to, if need be.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run directory, resumed if it exists. Default: runs/NAME.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, each with its own seed.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key.path=value, over the file's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor. Default: one for each core.")] = None,
) -> None:
    """Train a recipe in this process, without Ray, score it, and print the result.

    What was published stands beside it where it was measured in the same setting. The same command on the same run
    directory goes on where it was stopped.
    """
    spec = read_recipe(recipe, set_ or [])
    directory = (run or Path("runs") / spec.name).absolute()
    import torch

    from raycnn.data.remote import local_root
    from raycnn.recipes import train_recipe
    from raycnn.reporting.published import results_text
    from raycnn.robustness.units import beside_data, origins

    if threads:
        torch.set_num_threads(threads)
    place = chosen_device(device)
    root = local_root(data, spec.data, beside_data(spec.scoring))
    every = train_recipe(spec, root, directory, seeds, place, lambda line: print(line, flush=True))
    print("\n".join(["", *results_text(spec, every, origins(spec.scoring, spec.data, root))]))


def chosen_device(name: str) -> Any:
    """A torch.device for cpu, cuda or auto. Raises SpecError for another, and for a GPU that is not there."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise SpecError(f"--device {name}: is not known. Choose auto, cpu or cuda.")
    gpu = torch.cuda.is_available()
    if name == "cuda" and not gpu:
        raise SpecError("--device cuda: there is no GPU here that torch can use. Write --device cpu.")
    return torch.device("cuda" if gpu and name != "cpu" else "cpu")
