"""Data that lie at a URI: what of them is needed is copied into the user's cache folder, once."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from filelock import FileLock

from raycnn.data.cache import Progress
from raycnn.data.cifar import OFFICIAL
from raycnn.data.download import require_space
from raycnn.data.sources import place_of
from raycnn.errors import DataError
from raycnn.files import refuse_unwritable, replacing
from raycnn.spec.data import DataSpec
from raycnn.storage import TROUBLE, files_below, is_uri, last_part, open_directory, refusal, words

_AT_ONCE = 8  # object stores answer slowly, and many at a time


def local_root(
    place: str | None, data: DataSpec, benchmarks: Iterable[str] = (), progress: Progress | None = None
) -> Path | None:
    """The directory that --data means: itself, or a copy of what a URI has of the data set and the benchmarks.

    benchmarks: names of directories beside the data set, all of which are needed.
    Files whose size and time are the same as at the URI are not copied again. Raises DataError.
    """
    if place is None or not is_uri(place):
        return directory_of(place)
    copy = _copy_of(place)
    with _told(place, copy):
        copy.mkdir(parents=True, exist_ok=True)
        with FileLock(copy.parent / f".{copy.name}.lock"):
            _bring(place, copy, data, benchmarks, progress or (lambda what, done, total: None))
    return copy


def look_at(place: str | None, data: DataSpec, benchmarks: Iterable[str] = ()) -> tuple[Path | None, int]:
    """The directory of `local_root`, and how many bytes that would copy into it; nothing is copied. Raises DataError
    for what that would stop for."""
    if place is None or not is_uri(place):
        return directory_of(place), 0
    copy = _copy_of(place)
    with _told(place, copy):
        _, wanted = _wanted(place, open_directory(place), data, benchmarks)
        refuse_unwritable(copy)
        return copy, _copied_bytes(place, copy, _missing(wanted, copy))


def full_place(place: str) -> str:
    """A URI as it is, a directory from the root of this machine. Raises DataError for a URI that must not be used."""
    if not is_uri(place):
        return str(Path(place).absolute())
    _refuse_unusable(place)
    return place


def directory_of(place: str | None) -> Path | None:
    """The directory that --data means, whether what is needed of a URI has been copied there or not.

    Raises DataError for a URI that must not be used.
    """
    if place is None:
        return None
    return _copy_of(place) if is_uri(place) else Path(place).absolute()


def _copy_of(uri: str) -> Path:
    """The copy's last name is the URI's: a directory of CIFAR's is known by it."""
    _refuse_unusable(uri)
    digest = hashlib.sha256(uri.rstrip("/").encode()).hexdigest()[:16]
    return place_of(None) / "remote" / digest / (last_part(uri) or "data")


def _refuse_unusable(uri: str) -> None:
    if reason := refusal(uri):
        raise DataError(f"--data: {reason}")


@contextlib.contextmanager
def _told(uri: str, copy: Path) -> Iterator[None]:
    """What a file system raises as DataError."""
    try:
        yield
    except TROUBLE as error:
        raise DataError(
            f"--data {uri}: cannot be copied to {copy} ({words(error)}). Check the URI, your credentials and that disk."
        ) from error


def _bring(uri: str, copy: Path, data: DataSpec, benchmarks: Iterable[str], progress: Progress) -> None:
    there = open_directory(uri)
    names, wanted = _wanted(uri, there, data, benchmarks)
    here = [path for name in names for path in (copy / name).rglob("*") if path.is_file()]
    for path in here:
        if path.relative_to(copy).as_posix() not in wanted:
            path.unlink()  # gone from the URI
    missing = _missing(wanted, copy)
    total = _copied_bytes(uri, copy, missing)
    done = 0
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copies = {pool.submit(_copy, there, file, copy): file for file in missing}
        try:
            for copied in as_completed(copies):
                copied.result()
                done += copies[copied].size
                progress(f"copying {uri}", done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _wanted(uri: str, there: Any, data: DataSpec, benchmarks: Iterable[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of what the data set consists of at the URI, and all files that are needed, by their paths."""
    places = _places(data)
    names: tuple[str, ...] = ()
    wanted: dict[str, Any] = {}
    for names in places:
        for name in names:
            wanted |= files_below(there, name)
        if wanted:
            break
    if places and not wanted:
        expected = " or ".join(place[0] for place in places)
        raise DataError(f"--data {uri}: holds nothing of the data set {data.name} ({expected}). Copy the files there.")
    for name in benchmarks:
        if not (files := files_below(there, name)):
            raise DataError(f"--data {uri}: holds no {name}, which is to be scored. Copy it there, or change score.")
        wanted |= files
    return names, wanted


def _missing(wanted: dict[str, Any], copy: Path) -> list[Any]:
    """Those that are not in the copy as they are at the URI."""
    return [file for path, file in wanted.items() if _stamp(copy / path) != (file.size, _seconds(file))]


def _copied_bytes(uri: str, copy: Path, missing: list[Any]) -> int:
    """Raises DataError where the disk has no room for them."""
    total = sum(file.size for file in missing)
    require_space(copy, total, f"what --data {uri} has for this takes")
    return total


def _places(data: DataSpec) -> list[tuple[str, ...]]:
    """Where a data set may lie in a directory: the names that it has there, for each of the ways."""
    if data.name == "folder":
        return [("train", "test", "val")]
    if official := OFFICIAL.get(data.name):
        return [(official.folder,), (official.url.rsplit("/", 1)[-1],), tuple(official.files)]
    return []


def _copy(there: Any, file: Any, copy: Path) -> None:
    path = copy / file.path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    with there.open_input_stream(file.path, compression=None) as source, replacing(path) as target:
        while block := source.read(1 << 22):
            target.write(block)
        target.flush()
        os.utime(
            target.fileno(), (_seconds(file), _seconds(file))
        )  # so that the data converted from it are found again


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, int(found.st_mtime)


def _seconds(file: Any) -> int:
    return int(file.mtime_ns // 1_000_000_000) if file.mtime_ns else 0
