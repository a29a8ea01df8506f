"""`raycnn corrupt`: generated benchmark files of any images."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from raycnn.commands import resumable
from raycnn.errors import DataError, SpecError
from raycnn.spec.data import DataSpec

if TYPE_CHECKING:
    from raycnn.robustness.generating import Generation, Kind


@resumable("finished files are kept")
def corrupt(
    out: Annotated[Path, typer.Option(help="Where the files are written; what is there is resumed.")],
    data: Annotated[
        str | None, typer.Option(help="Directory or URI with the images; a directory is downloaded to, if need be.")
    ] = None,
    name: Annotated[str, typer.Option(help="cifar10, cifar100, folder or shapes.")] = "cifar10",
    set_: Annotated[str, typer.Option("--set", help="c, p, or both (into OUT/c and OUT/p).")] = "c",
    corruptions: Annotated[
        str | None, typer.Option(help="Some only, separated by commas; with p, perturbations.")
    ] = None,
    split: Annotated[str, typer.Option(help="test or train.")] = "test",
    images: Annotated[int | None, typer.Option(min=1, help="The first so many. Default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    frost_textures: Annotated[
        Path | None, typer.Option(help="Folder with photographs of ice. Default: procedural ice.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    image_px: Annotated[int, typer.Option(min=8, max=1024, help="Side of the images of a folder.")] = 32,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Take an unofficial copy of CIFAR.")] = False,
) -> None:
    """Corrupt images as the authors of CIFAR-10-C and CIFAR-10-P did, into files of the same layout.

    Files that are there, made with the same settings, are kept: the same command goes on where it was stopped.
    """
    _one_of("--name", name, ("cifar10", "cifar100", "folder", "shapes"))
    spec = DataSpec.model_validate({"name": name, "verify": not no_verify, "image_px": image_px})
    from raycnn.commands.live import LiveLine
    from raycnn.data.remote import local_root
    from raycnn.data.sources import load
    from raycnn.robustness.frost import read_textures
    from raycnn.robustness.generating import Generation, SplitName, generate

    part = _one_of("--split", split, get_args(SplitName))
    chosen = _chosen(set_, corruptions, frost_textures is not None)
    textures = read_textures(frost_textures) if frost_textures else None
    line = LiveLine()
    with contextlib.closing(line):
        try:
            found = load(spec, local_root(data, spec, progress=line), line)
        except DataError as error:  # which knows a specification's words, but not this command's
            raise DataError(str(error).replace("with data.verify: false", "with --no-verify")) from error
        count = images or (len(found.train.labels) if split == "train" else found.test_count)
        line.say(
            f"{name}: {count:,} images of the {split} split, seed {seed}"
            f"{'' if found.verified else '; an unofficial copy: checksums were not compared'}"
        )
        for note in found.notes():
            line.say(note)
        for kind, names in chosen.items():
            wanted = Generation(kind, names, found.directory, part, count, seed, textures)
            if "frost" in names:
                line.say(f"frost: {_ice(wanted, frost_textures)}")
            directory = out.absolute() / (kind if set_ == "both" else "")
            generate(wanted, directory, workers or _cores(), line, line.say)
            line.say(f"{directory}: {len(names)} files, complete.{_use(name, split, kind, directory)}")


def _one_of(option: str, value: str, known: Sequence[Any]) -> Any:
    if value not in known:
        raise SpecError(f"{option} {value}: is not known. Choose from {', '.join(known)}.")
    return value


def _chosen(set_: str, corruptions: str | None, textures: bool) -> "dict[Kind, tuple[str, ...]]":
    """The names of each kind that is wished."""
    from raycnn.robustness.generating import Kind, choose

    kinds: tuple[Kind, ...] = ("c", "p")
    if _one_of("--set", set_, (*kinds, "both")) != "both":
        kinds = tuple(kind for kind in kinds if kind == set_)
    known = [name for kind in kinds for name in choose(kind, None)]
    names = None if corruptions is None else [name.strip() for name in corruptions.split(",")]
    for name in names or ():
        _one_of("--corruptions", name, known)
    chosen: dict[Kind, tuple[str, ...]] = {kind: choose(kind, names) for kind in kinds}
    if textures and "frost" not in chosen.get("c", ()):
        raise SpecError("--frost-textures: frost is not among what is to be made. Leave it out.")
    return {kind: names for kind, names in chosen.items() if names}


def _ice(wanted: "Generation", folder: Path | None) -> str:
    return f"{', '.join(wanted.textures.names)} of {folder}" if wanted.textures else str(wanted.frost())


def _use(name: str, split: str, kind: str, directory: Path) -> str:
    """How to score on it, where it is the test set of such a benchmark."""
    key = {("cifar10", "c"): "cifar10_c", ("cifar10", "p"): "cifar10_p", ("cifar100", "c"): "cifar100_c"}
    if split != "test" or (name, kind) not in key:
        return ""
    return f" Score on them with --set finals.{key[name, kind]}={directory}"


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
