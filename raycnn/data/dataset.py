"""DataSet: two splits of images, what a training must know of them, and the folder of .npy files that holds it all."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raycnn.errors import DataError
from raycnn.files import write_atomically

SPLITS = ("train", "test")
_BLOCK = 1000  # images that are held in memory at once while a split is measured


@dataclass(frozen=True, slots=True)
class ImageSet:
    """images: (n, height, width, 3) uint8, RGB. labels: (n,) int64. Both memory-mapped, read-only."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class DataSet:
    """The training images, and how many test images there are; those are opened by `open_test` alone.

    mean, std: of each channel over the training images, as fractions of 1; std at least 1/255, to be divided by.
    digest: sha256 over the images, then the labels (little-endian int64), of train, then of test.
    verified: False for a copy of CIFAR whose checksums were not compared, so that a report can say so.
    directory: where the .npy files lie; `open_cached` opens it again.
    duplicates: a line for each kind of images with the same pixels. left_out: what lies among the files and is not
    read, in words; only `sources.load` knows it.
    """

    name: str
    class_names: tuple[str, ...]
    train: ImageSet
    test_count: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    digest: str
    verified: bool
    directory: Path
    duplicates: tuple[str, ...] = ()
    left_out: str = ""

    def notes(self) -> list[str]:
        """Lines that a user should see, whatever is done with the images."""
        left_out = [f"left out: {self.left_out}"] if self.left_out else []
        return left_out + [f"warning: {line}" for line in self.duplicates]

    def open_test(self) -> ImageSet:
        """The test images, which only scoring may see. Raises DataError where their files are missing or damaged."""
        with _cached_files(self.directory):
            meta = json.loads((self.directory / "meta.json").read_text(encoding="utf-8"))
            return _open_checked(self.directory, "test", meta)


def test_files(directory: Path) -> tuple[Path, Path]:
    """Where `DataSet.open_test` finds images and labels: what a search must not open."""
    return _images_file(directory, "test"), _labels_file(directory, "test")


def open_cached(directory: Path) -> DataSet:
    """Open a folder of `DataSet.directory` by memory map, in milliseconds. Nothing beyond its shapes is checked.

    Raises DataError where the folder is missing or damaged.
    """
    with _cached_files(directory):
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        for path, least in zip(test_files(directory), _test_bytes(meta), strict=True):
            if path.stat().st_size < least:  # not opened
                raise ValueError(f"{path.name} is torn")
        return DataSet(
            name=meta["name"],
            class_names=tuple(meta["class_names"]),
            train=_open_checked(directory, "train", meta),
            test_count=int(meta["shapes"]["test"][0]),
            mean=tuple(meta["mean"]),
            std=tuple(meta["std"]),
            digest=meta["digest"],
            verified=meta["verified"],
            directory=directory,
            duplicates=tuple(meta.get("duplicates", ())),
        )


def _test_bytes(meta: dict[str, Any]) -> tuple[int, int]:
    """Of the test images and their labels, without what .npy files have before them."""
    shape = meta["shapes"]["test"]
    return math.prod(shape), 8 * shape[0]


@contextlib.contextmanager
def _cached_files(directory: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: not there. Load the data set again to convert it anew.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory}: damaged ({error}). Delete this folder; the next start makes it anew.") from error


def seal(directory: Path, facts: dict[str, Any]) -> None:
    """Measure the four .npy files in `directory`, write `facts` and the measures as meta.json, and sync all to disk."""
    splits = {split: open_split(directory, split) for split in SPLITS}
    shapes = {split: list(opened.images.shape) for split, opened in splits.items()}
    mean, std = channel_statistics(splits["train"].images)
    digest = digest_of((opened.images, opened.labels) for opened in splits.values())
    meta = {**facts, "mean": mean, "std": std, "digest": digest, "shapes": shapes}
    write_atomically(directory / "meta.json", json.dumps(meta, indent=1))
    for file in directory.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def digest_of(splits: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    """As of `DataSet`. splits: images and labels of train, then of test."""
    digest = hashlib.sha256()
    for images, labels in splits:
        for block in _blocks(images):
            digest.update(block.data)
        digest.update(labels.astype("<i8").data)
    return digest.hexdigest()


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (at least 1/255) of each channel, as fractions of 1, from counts of the values."""
    counts = np.zeros((3, 256), np.int64)
    for block in _blocks(images):
        for channel in range(3):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return mean.tolist(), np.maximum(std, 1 / 255).tolist()


def save_split(directory: Path, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one split: images (n, h, w, 3) uint8, labels (n,) of any integer type."""
    np.save(_images_file(directory, split), np.ascontiguousarray(images), allow_pickle=False)
    save_labels(directory, split, labels)


def create_images(directory: Path, split: str, shape: tuple[int, int, int, int]) -> np.memmap:
    """A memory map of a split's image file, to be filled piece by piece by sources that do not fit in memory."""
    return np.lib.format.open_memmap(_images_file(directory, split), "w+", np.uint8, shape)


def save_labels(directory: Path, split: str, labels: np.ndarray) -> None:
    np.save(_labels_file(directory, split), labels.astype(np.int64), allow_pickle=False)


def open_split(directory: Path, split: str) -> ImageSet:
    """A split that was saved, by memory map, as it is."""
    images = np.load(_images_file(directory, split), mmap_mode="r", allow_pickle=False)
    labels = np.load(_labels_file(directory, split), mmap_mode="r", allow_pickle=False)
    return ImageSet(images, labels)


def _open_checked(directory: Path, split: str, meta: dict[str, Any]) -> ImageSet:
    opened = open_split(directory, split)
    images, labels = opened.images, opened.labels
    expected = tuple(meta["shapes"][split])
    if images.shape != expected or images.dtype != np.uint8 or labels.shape != expected[:1] or labels.dtype != np.int64:
        raise ValueError(f"{split}: {images.dtype} {images.shape} with labels {labels.dtype} {labels.shape}")
    return opened


def _images_file(directory: Path, split: str) -> Path:
    return directory / f"{split}_images.npy"


def _labels_file(directory: Path, split: str) -> Path:
    return directory / f"{split}_labels.npy"


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _BLOCK):
        yield np.ascontiguousarray(images[start : start + _BLOCK])
