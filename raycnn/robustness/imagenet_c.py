"""ImageNet-C directories: a picture file for each image, corruption and severity. Hendrycks & Dietterich 2019.

DIR/<corruption>/<severity>/<class>/<picture>, or with a folder for each family between, DIR/noise/gaussian_noise/1/…,
as the authors' archives unpack. Every corruption and severity holds the same pictures; those of the authors are
224 x 224 JPEG files.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from raycnn.data.pictures import is_hidden, is_picture, read_picture
from raycnn.errors import DataError
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES

_SAMPLES = 3  # pictures of a severity that a fingerprint is of, about


@dataclasses.dataclass(frozen=True, slots=True)
class PictureFolders:
    """One corruption at its severities. names: of the pictures, with their class's folder; labels: (n,) int64."""

    name: str
    path: Path
    names: tuple[str, ...]
    labels: np.ndarray

    @property
    def n(self) -> int:
        return len(self.names)

    def batches(self, severity: int, size: int, side_px: int, threads: int = 8) -> Iterator[np.ndarray]:
        """(batch, side, side, 3) uint8, decoded some batches ahead. Raises DataError for a damaged picture."""
        folder = self.path / str(severity)
        with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
            ahead = []
            for start in range(0, self.n, size):
                names = self.names[start : start + size]
                ahead.append([pool.submit(read_picture, folder / name, side_px) for name in names])
                if len(ahead) > 2:
                    yield np.stack([one.result() for one in ahead.pop(0)])
            for one in ahead:
                yield np.stack([picture.result() for picture in one])

    def fingerprint(self, side_px: int) -> bytes:
        """Of the pictures' names, of some pictures, and of the side that all are brought to."""
        digest = hashlib.sha256("\n".join([str(side_px), *self.names]).encode())
        for severity in SEVERITIES:
            for name in self.names[:: max(1, self.n // _SAMPLES)]:
                digest.update((self.path / str(severity) / name).read_bytes())
        return digest.digest()


@dataclasses.dataclass(frozen=True, slots=True)
class ImageNetC:
    """A checked directory. classes: the names of the classes' folders, in order; a label is a place in it."""

    directory: Path
    classes: tuple[str, ...]
    files: tuple[PictureFolders, ...]


def open_imagenet_c(directory: Path, classes: Sequence[str] | None = None) -> ImageNetC:
    """Check that all corruptions and severities hold the same pictures; no picture is opened.

    classes: all names of classes in the order of a network's logits; default: those of the folders, sorted.
    Raises DataError, one line, for the first thing that is wrong.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory. Give the one with the corruptions of ImageNet-C.")
    places = _places(directory)
    if not places:
        raise DataError(
            f"{directory} holds no corruption of ImageNet-C, such as gaussian_noise/1/. Give the one that does."
        )
    first_name, first = next(iter(places.items()))
    names = _pictures(first / "1")
    for path in places.values():
        for severity in SEVERITIES:
            folder = path / str(severity)
            if folder != first / "1" and (found := _pictures(folder)) != names:
                raise DataError(_difference(folder, found, names, f"{first_name}/1"))
    there = sorted({name.split("/", 1)[0] for name in names})
    known = list(classes or there)
    if unknown := [name for name in there if name not in known]:
        raise DataError(
            f"{first / '1' / unknown[0]}: is no class of the network, which has {', '.join(known[:3])}, … Rename it."
        )
    place = {name: index for index, name in enumerate(known)}
    labels = np.array([place[name.split("/", 1)[0]] for name in names], dtype=np.int64)
    files = tuple(PictureFolders(name, path, tuple(names), labels) for name, path in places.items())
    return ImageNetC(directory, tuple(known), files)


def _places(directory: Path) -> dict[str, Path]:
    """The corruptions that are there, in their usual order; right here, or one folder deeper."""
    found = {}
    for name in CORRUPTIONS:
        paths = [path for path in (directory / name, *sorted(directory.glob(f"*/{name}"))) if path.is_dir()]
        if len(paths) > 1:
            raise DataError(f"{paths[1]}: {name} is also in {paths[0].parent}. Keep one of them.")
        if paths:
            found[name] = paths[0]
    return found


def _pictures(folder: Path) -> list[str]:
    """Of one severity: class/picture, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is missing. Each corruption has the severities 1 to 5; get it again.")
    found = sorted(
        f"{path.parent.name}/{path.name}"
        for path in folder.glob("*/*")
        if is_picture(path) and not is_hidden(path.parent.name)
    )
    if not found:
        raise DataError(f"{folder}: holds no picture in a class's folder. Get it again.")
    return found


def _difference(folder: Path, found: list[str], wanted: list[str], where: str) -> str:
    odd = min(set(found) ^ set(wanted))
    words = f"has no {odd}" if odd in wanted else f"has {odd}"
    return f"{folder}: {words}, unlike {where}. All severities hold the same pictures; get it again."
