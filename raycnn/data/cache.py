"""The cache: a source is converted to .npy files once; as long as it stays unchanged, later loads only map them."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from raycnn.data.dataset import DataSet, open_cached, seal
from raycnn.data.duplicates import ImageName, record_duplicates
from raycnn.errors import DataError
from raycnn.files import refuse_unwritable

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much

_FORMAT = 2  # part of the key: raise it when what is written here changes


@dataclass(frozen=True, slots=True)
class Look:
    """A data set, as far as it is known before anything is downloaded or converted.

    labels: (n,) of the training images; where `digest` is None perhaps in another order. digest: as DataSet has it;
    None: not known yet. download_bytes: of what would be fetched. cache_bytes: of what would be kept, converted.
    note: what could not be looked at. class_names, left_out: as DataSet has them, where they are known.
    """

    labels: np.ndarray
    test_count: int
    digest: str | None = None
    download_bytes: int = 0
    cache_bytes: int = 0
    note: str = ""
    class_names: tuple[str, ...] = ()
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set comes from.

    settings: everything beside the files that decides about the result, JSON-serialisable.
    files: what is read; a change of path, size or modification time makes another cache entry.
    convert: writes the four .npy files into a folder; returns the class names and whether checksums held.
    look: reads and checks what convert does, and writes nothing; without `cache_bytes`.
    image_name: what a user calls an image. left_out: as in DataSet.
    """

    name: str
    settings: dict[str, Any]
    files: tuple[Path, ...]
    convert: Callable[[Path, Progress], tuple[tuple[str, ...], bool]]
    look: Callable[[], Look]
    image_name: ImageName = lambda split, index: f"{split} image {index}"
    left_out: str = ""


def cached(source: Source, cache: Path, progress: Progress) -> DataSet:
    """The data set of `source`, from its entry in the folder `cache`, which is made first where it is missing.

    Safe for several processes at once: one converts, the others wait for it. An entry appears whole or not at all, and
    a damaged one is made anew. Raises DataError where the source is damaged or the cache cannot be written.
    """
    return replace(_cached(source, cache, progress), left_out=source.left_out)


def _cached(source: Source, cache: Path, progress: Progress) -> DataSet:
    files = _describe(source.files)
    entry = _entry(source, files, cache)
    if (entry / "meta.json").exists():
        try:
            return open_cached(entry)
        except DataError:
            pass  # damaged: made anew below, under the lock
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_name(f"{entry.name}.lock")):
            return _whole(entry) or _make(source, files, entry, progress)
    except OSError as error:
        raise _unusable(cache, error) from error


def looked_at(source: Source, cache: Path, image_bytes: int) -> Look:
    """What `cached` would give and would raise at once; nothing is written. image_bytes: of one image."""
    found = _whole(_entry(source, _describe(source.files), cache))
    if found is not None:
        return Look(
            np.asarray(found.train.labels),
            found.test_count,
            found.digest,
            class_names=found.class_names,
            left_out=source.left_out,
        )
    try:
        refuse_unwritable(cache)
    except OSError as error:
        raise _unusable(cache, error) from error
    look = source.look()
    return replace(look, cache_bytes=(len(look.labels) + look.test_count) * image_bytes)


def _unusable(cache: Path, error: OSError) -> DataError:
    return DataError(f"{cache}: cannot hold the converted data ({error}). Free some space or mend its rights.")


def _entry(source: Source, files: list[tuple[str, int, int]], cache: Path) -> Path:
    return cache / f"{source.name}-{_key(source, files)}"


def _describe(files: tuple[Path, ...]) -> list[tuple[str, int, int]]:
    """Path, size in bytes and modification time in nanoseconds of each file."""
    described = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror}). Put it back, or mend its rights.") from error
        described.append((str(file), status.st_size, status.st_mtime_ns))
    return described


def _key(source: Source, files: list[tuple[str, int, int]]) -> str:
    text = json.dumps([_FORMAT, source.name, source.settings, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _whole(entry: Path) -> DataSet | None:
    """An entry that is whole, as one that another process made while this one waited for the lock."""
    try:
        return open_cached(entry)
    except DataError:
        return None


def _make(source: Source, files: list[tuple[str, int, int]], entry: Path, progress: Progress) -> DataSet:
    """Convert into a temporary folder beside `entry` and rename it. The caller holds the lock."""
    for leftover in [entry, *entry.parent.glob(f".{entry.name}-*")]:  # damaged, or of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=entry.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder, "made")
        made.mkdir()
        class_names, verified = source.convert(made, progress)
        if _describe(source.files) != files:
            raise DataError(
                f"{source.name}: its files changed while they were read. Start again when they are complete."
            )
        facts = {"name": source.name, "class_names": class_names, "verified": verified}
        facts["duplicates"] = record_duplicates(made, source.image_name, progress)
        seal(made, {**facts, "source": {"settings": source.settings, "files": _brief(files)}})
        made.rename(entry)
    return open_cached(entry)


def _brief(files: list[tuple[str, int, int]]) -> list[tuple[str, int, int]] | str:
    """The files for meta.json; of very many only their hash, so that workers open it in milliseconds."""
    if len(files) <= 100:
        return files
    return f"{len(files)} files, sha256 {hashlib.sha256(json.dumps(files).encode()).hexdigest()}"
