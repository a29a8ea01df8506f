"""CIFAR-10-C, CIFAR-100-C and CIFAR-10-P directories in the authors' layout: checked when opened, read by memory map.

CIFAR-10-C, and CIFAR-100-C likewise: a file per corruption, (5 n, 32, 32, 3) uint8, the first n test images at
severity 1, then 2, … 5, and `labels.npy`, (5 n,) integers. CIFAR-10-P: a file per perturbation, (n, frames, 32, 32, 3)
uint8, one video for each of the first n test images, and perhaps `labels.npy`, (n,). In the official files n is 10,000;
any n is taken.
Nothing is ever unpickled.
"""

import dataclasses
import os
import tokenize
from pathlib import Path

import numpy as np

from raycnn.errors import DataError
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES
from raycnn.robustness.metrics import is_noise
from raycnn.robustness.perturbations import FRAMES, PERTURBATIONS

_LABELS = "labels.npy"

# What numpy raises for one or another byte of a header that was changed.
_TORN = (ValueError, TypeError, OverflowError, EOFError, OSError, tokenize.TokenError)


@dataclasses.dataclass(frozen=True, slots=True)
class CorruptionFile:
    """n test images at five severities. Small enough to be sent to the process that reads the file."""

    name: str
    path: Path
    n: int

    def images(self, read_ahead: bool = True) -> np.ndarray:
        """(5, n, 32, 32, 3) uint8, read-only, memory-mapped. read_ahead: for who will look at all of them.

        Raises DataError if the file has changed since.
        """
        images = _opened(self.path)
        if read_ahead:
            _read_ahead(self.path)
        if images.shape[:1] != (len(SEVERITIES) * self.n,):
            raise DataError(f"{self.path}: had {len(SEVERITIES) * self.n} rows, now {images.shape}. Start again.")
        return images.reshape(len(SEVERITIES), self.n, *images.shape[1:])


@dataclasses.dataclass(frozen=True, slots=True)
class CorruptionArchive:
    """A checked CIFAR-10-C directory; files in the order of `corruptions.CORRUPTIONS`, those that are there."""

    directory: Path
    n: int
    labels: np.ndarray  # (n,) int64
    files: tuple[CorruptionFile, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PerturbationFile:
    """n videos. `noise`: frames are compared with the first one, not with the one before."""

    name: str
    path: Path
    n: int
    frames: int
    noise: bool

    def videos(self, read_ahead: bool = True) -> np.ndarray:
        """(n, frames, 32, 32, 3) uint8, as `CorruptionFile.images`."""
        videos = _opened(self.path)
        if read_ahead:
            _read_ahead(self.path)
        if videos.shape[:2] != (self.n, self.frames):
            raise DataError(
                f"{self.path}: had {self.n} videos of {self.frames} frames, now {videos.shape[:2]}. Start again."
            )
        return videos


@dataclasses.dataclass(frozen=True, slots=True)
class PerturbationArchive:
    """A checked CIFAR-10-P directory; files in the order of `PERTURBATIONS`, those that are there."""

    directory: Path
    n: int
    labels: np.ndarray | None  # (n,) int64
    files: tuple[PerturbationFile, ...]


def open_corruptions(directory: Path, test_labels: np.ndarray | None = None, image_px: int = 32) -> CorruptionArchive:
    """Check names, shapes, types and counts of a CIFAR-10-C or CIFAR-100-C directory; reads headers and labels only.

    test_labels: labels (CIFAR-100: the fine ones) of the test set that the images were made from; those of the
    directory must be its first n. image_px: side of the images.
    Raises DataError, one line, for the first thing that is wrong.
    """
    paths = _files(directory, CORRUPTIONS, "CIFAR-10-C or CIFAR-100-C")
    labels_path = directory / _LABELS
    if not labels_path.is_file():
        raise DataError(f"{labels_path} is missing: five times the labels of the first n test images. Put it there.")
    repeated = _opened_labels(labels_path)
    n, rest = divmod(len(repeated), len(SEVERITIES))
    if rest or n == 0:
        raise DataError(
            f"{labels_path}: {len(repeated)} labels are not five times those of n images. Get the file again."
        )
    if (repeated.reshape(len(SEVERITIES), n) != repeated[:n]).any():
        raise DataError(
            f"{labels_path}: the labels of {n} images should stand there five times over, once for each severity, but "
            "the repeats differ. Get the file again, or put all images at severity 1 first, then all at 2, and so on."
        )
    labels = repeated[:n]
    _check_against_test_labels(labels_path, labels, test_labels)
    for path in paths.values():
        _check_images(path, (len(repeated), image_px, image_px, 3), f"five severities of the {n} images of {_LABELS}")
    files = tuple(CorruptionFile(name, path, n) for name, path in paths.items())
    return CorruptionArchive(directory, n, labels, files)


def open_perturbations(
    directory: Path, test_labels: np.ndarray | None = None, image_px: int = 32
) -> PerturbationArchive:
    """As `open_corruptions`, for a CIFAR-10-P directory. All files must hold as many videos as the first."""
    paths = _files(directory, PERTURBATIONS, "CIFAR-10-P")
    first = next(iter(paths.values()))
    n = sum(_opened(first).shape[:1])
    if n == 0:
        raise DataError(f"{first}: holds no videos. Get the file again.")
    for name, path in paths.items():
        _check_images(
            path, (n, FRAMES[name], image_px, image_px, 3), f"videos as many as in {first.name}, of {name}'s frames"
        )
    labels = None
    labels_path = directory / _LABELS
    if labels_path.is_file():
        labels = _opened_labels(labels_path)
        if len(labels) != n:
            raise DataError(f"{labels_path}: {len(labels)} labels for {n} videos. Get the file again, or remove it.")
        _check_against_test_labels(labels_path, labels, test_labels)
    files = tuple(PerturbationFile(name, path, n, FRAMES[name], is_noise(name)) for name, path in paths.items())
    return PerturbationArchive(directory, n, labels, files)


def _files(directory: Path, known: tuple[str, ...], benchmark: str) -> dict[str, Path]:
    """The known .npy files of a directory, in the order of `known`. An unknown one is refused; other files pass."""
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory. Give the one with the .npy files of {benchmark}.")
    found = {path.stem: path for path in directory.glob("*.npy") if not path.name.startswith(".")}
    unknown = sorted(found.keys() - set(known) - {Path(_LABELS).stem})
    if unknown:
        raise DataError(
            f"{directory / unknown[0]}.npy is no file of {benchmark}: those are {_LABELS}, {', '.join(known)}. "
            "Rename or remove it."
        )
    files = {name: found[name] for name in known if name in found}
    if not files:
        raise DataError(
            f"{directory} holds no file of {benchmark}, such as {known[0]}.npy. Give the directory that does."
        )
    return files


def _opened(path: Path) -> np.ndarray:
    """The array of a .npy file by memory map; no pickle, no zip, and not a byte more or less than its header says."""
    try:
        if not path.is_file():
            raise OSError("it is no file")
        array = np.lib.format.open_memmap(path, mode="r")
    except _TORN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as an array of numbers ({reason}). Get the file again.") from None
    size = path.stat().st_size
    wanted = array.offset + array.nbytes  # pyright: ignore[reportAttributeAccessIssue] the stub names its base class
    if size != wanted:
        raise DataError(f"{path}: {size} bytes where its header asks for {wanted}. Get the file again.")
    return array


def _read_ahead(path: Path) -> None:
    """Let the kernel fetch the file while the first of it is computed on, where it can be asked to (not on macOS)."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _check_images(path: Path, shape: tuple[int, ...], meaning: str) -> None:
    array = _opened(path)
    if array.shape != shape or array.dtype != np.uint8:
        raise DataError(
            f"{path}: expected {shape} uint8, {meaning}; got {array.shape} {array.dtype}. Get the file again."
        )


def _opened_labels(path: Path) -> np.ndarray:
    """(count,) int64."""
    labels = _opened(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: expected a row of integers, got {labels.shape} {labels.dtype}. Get the file again.")
    return np.array(labels, dtype=np.int64)


def _check_against_test_labels(path: Path, labels: np.ndarray, test_labels: np.ndarray | None) -> None:
    if test_labels is None:
        return
    if len(labels) > len(test_labels):
        raise DataError(
            f"{path}: labels of {len(labels)} images, but the test set has {len(test_labels)}. Give the whole set."
        )
    wrong = np.flatnonzero(labels != test_labels[: len(labels)])
    if len(wrong):
        raise DataError(
            f"{path}: {len(wrong)} of {len(labels)} labels are not those of the first test images, the first at "
            f"{wrong[0]}. Check that both are of the same data set, in the official order."
        )
