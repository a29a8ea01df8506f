"""`raycnn fetch`: the official data sets and benchmark files."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from raycnn.commands import resumable
from raycnn.data.cache import Progress
from raycnn.errors import SpecError
from raycnn.spec.data import DataSpec


@resumable("what has been downloaded is kept")
def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, cifar10-c, cifar10-p or cifar100-c.")],
    data: Annotated[Path | None, typer.Option(help="Data directory. Default: ~/.cache/raycnn.")] = None,
    url: Annotated[str | None, typer.Option(help="Of a mirror; the official checksum has to hold.")] = None,
) -> None:
    """Download an official data set or benchmark, verify it, and unpack it into the data directory.

    An archive that lies there is taken instead of downloading. The same command goes on where it was stopped.
    """
    from raycnn.commands.live import LiveLine
    from raycnn.data import cifar
    from raycnn.data.sources import place_of
    from raycnn.robustness import fetching

    names = (*cifar.OFFICIAL, *fetching.OFFICIAL)
    if name not in names:
        raise SpecError(f"{name}: is not known. Choose from {', '.join(names)}.")
    place = place_of(data)
    line = LiveLine()
    with contextlib.closing(line):
        told = _images(name, place, line, url) if name in cifar.OFFICIAL else _benchmark(name, place, line, url)
    print(told)


def _images(name: str, place: Path, progress: Progress, url: str | None) -> str:
    from raycnn.data.cifar import is_complete
    from raycnn.data.sources import load

    already = "already " if is_complete(name, place) else ""
    found = load(DataSpec.model_validate({"name": name}), place, progress, mirror=url)
    counts = f"{len(found.train.labels):,} training and {found.test_count:,} test images"
    return f"{name} in {place}: {already}complete, {counts}, checksums verified."


def _benchmark(name: str, place: Path, progress: Progress, url: str | None) -> str:
    from raycnn.robustness.fetching import fetch as fetch_files

    got = fetch_files(name, place, progress, url)
    already = "already " if got.was_there else ""
    checked = "of the archive with the official MD5" if got.verified else "of an archive whose MD5 was not seen here"
    kept = f" {got.archive} is kept, but needed no more." if got.archive else ""
    return f"{got.directory}: {already}complete, {got.files} files {checked}, for {got.n:,} test images.{kept}"
