"""Where images come from: `load` finds, downloads or generates what a DataSpec names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs

from raycnn.data import cifar, folder, shapes
from raycnn.data.cache import Look, Progress, Source, cached, looked_at
from raycnn.data.dataset import SPLITS, DataSet, ImageSet, open_cached, save_split
from raycnn.data.pictures import is_hidden
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

__all__ = ["DataSet", "ImageSet", "Look", "Progress", "load", "look", "open_cached"]

_BENCHMARKS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
"""What begins the names of folders that lie beside a data set."""


def load(
    spec: DataSpec,
    root: Path | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    mirror: str | None = None,
) -> DataSet:
    """The data set of `spec`, converted at the first call, memory-mapped at once afterwards.

    root: where its files are; wins over spec.root; else the user's cache folder (~/.cache/raycnn).
    progress: called with (what, done, total) while something takes time.
    cache: where converted data are kept; default: `data` in the user's cache folder.
    mirror: address of CIFAR's archive, where the official one is not to be asked.
    Raises DataError where the data are missing, damaged or not what they claim to be.
    """
    progress = progress or (lambda what, done, total: None)
    named = root or spec.root
    place = place_of(named)
    try:
        source = _find(spec, place, named is not None, progress, mirror)
    except OSError as error:
        raise _unreadable(place, error) from error
    return cached(source, cache or place_of(None) / "data", progress)


def look(spec: DataSpec, root: Path | None = None, cache: Path | None = None) -> Look:
    """What `load` would give, by the same checks; nothing is downloaded, converted or written. Raises DataError."""
    named = root or spec.root
    place = place_of(named)
    try:
        if spec.name in cifar.OFFICIAL and (absent := cifar.look_without_files(spec, place)):
            return replace(absent, cache_bytes=(len(absent.labels) + absent.test_count) * _image_bytes(spec))
        source = _find(spec, place, named is not None, lambda what, done, total: None, None)
    except OSError as error:
        raise _unreadable(place, error) from error
    return looked_at(source, cache or place_of(None) / "data", _image_bytes(spec))


def _image_bytes(spec: DataSpec) -> int:
    return 3 * spec.side_px**2


def _unreadable(place: Path, error: OSError) -> DataError:
    return DataError(f"{place}: cannot be read ({error}). Mend its rights, or name another folder with --data.")


def name_of(root: Path) -> str | None:
    """The name of the data set that lies in a folder, as `data.name` has it; None where there is nothing.

    Raises DataError where it is none.
    """
    if not root.is_dir() or not any(root.iterdir()):
        return None
    names = [name for name in cifar.OFFICIAL if cifar.is_there(name, root)]
    names = names or [name for name, label in _BENCHMARKS.items() if any(root.glob(f"{label}-[CP]"))]
    if not names and any(
        path.is_dir() and not is_hidden(path.name) for name in folder.TEST_FOLDERS for path in root.glob(f"{name}/*")
    ):
        names = ["folder"]
    if len(names) != 1:
        found = " and ".join(names) or "neither CIFAR nor pictures in test/CLASS/"
        raise DataError(f"{root}: holds {found}. Say what is meant: --set data.name=cifar10, cifar100 or folder.")
    return names[0]


def place_of(root: Path | None) -> Path:
    """The folder that files lie in or are downloaded to: `root`, else the user's cache folder."""
    return (root or user_cache()).expanduser().resolve()


def user_cache() -> Path:
    """Raises DataError for a user without a home, as a container's may be."""
    try:
        return platformdirs.user_cache_path("raycnn")
    except RuntimeError as error:
        raise DataError(
            "There is no home directory for the cache of converted images. Set XDG_CACHE_HOME to a directory."
        ) from error


def _find(spec: DataSpec, root: Path, named: bool, progress: Progress, mirror: str | None) -> Source:
    match spec.name:
        case "shapes":
            return _shapes(spec)
        case "folder":
            if not named:
                raise DataError("data.name: folder needs to know where. Name the folder with --data or data.root.")
            return folder.find(spec, root)
        case "cifar10" | "cifar100":
            return cifar.find(spec, root, progress, mirror)


def _shapes(spec: DataSpec) -> Source:
    counts = {"train": spec.train_images, "test": spec.test_images}

    def convert(directory: Path, progress: Progress) -> tuple[tuple[str, ...], bool]:
        for number, split in enumerate(SPLITS):
            told = _told(progress, f"drawing {split} shapes", counts[split])
            save_split(directory, split, *shapes.generate(counts[split], spec.seed, number, told))
        return shapes.CLASS_NAMES, True

    settings = {**counts, "seed": spec.seed, "version": shapes.VERSION}
    classes = len(shapes.CLASS_NAMES)
    return Source(spec.name, settings, (), convert, lambda: Look(np.arange(counts["train"]) % classes, counts["test"]))


def _told(progress: Progress, what: str, total: int):
    return lambda done: progress(what, done, total)
