"""Images with the same pixels. One that is trained on and measured with makes the measure too good."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raycnn.data.dataset import SPLITS, DataSet, open_split
from raycnn.data.split import Split
from raycnn.errors import DataError
from raycnn.files import write_atomically

_FILE = "duplicates.json"
_BLOCK = 10_000  # images between two reports of progress

ImageName = Callable[[str, int], str]
"""From split and index of an image to what a user calls it."""


def record_duplicates(directory: Path, image_name: ImageName, progress: Callable[[str, int, int], None]) -> list[str]:
    """Compare all images in the .npy files of `directory`: lines about test images that are trained on, and classes.

    Groups of training images with the same pixels are written there, for `split_duplicates`; no test image is among
    them.
    """
    splits = [open_split(directory, split) for split in SPLITS]
    count, test_count = (len(split.labels) for split in splits)
    labels = np.concatenate([split.labels for split in splits])
    keys = np.concatenate([_keys(split.images, name, progress) for name, split in zip(SPLITS, splits, strict=True)])
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[group]  # of each image, the first one with its pixels: a training image where there is one
    repeated = np.flatnonzero(earliest != np.arange(len(earliest)))

    def named(index: int) -> str:
        return image_name("train", index) if index < count else image_name("test", index - count)

    def pairs(those: np.ndarray) -> list[tuple[str, str]]:
        return [(named(int(index)), named(int(earliest[index]))) for index in repeated[those]]

    groups: dict[int, list[int]] = {}
    for index in repeated[repeated < count].tolist():
        groups.setdefault(int(earliest[index]), [int(earliest[index])]).append(index)
    content = [[[index, named(index)] for index in members] for members in groups.values()]
    write_atomically(directory / _FILE, json.dumps(content))
    return [
        *_line(
            f"of {test_count:,} test images: the same pixels as a training image",
            pairs((repeated >= count) & (earliest[repeated] < count)),
            "Scores are too good; remove such images.",
        ),
        *_line(
            f"of {len(labels):,} images: the same pixels as one of another class",
            pairs(labels[repeated] != labels[earliest[repeated]]),
            "One of the classes is wrong; remove such images.",
        ),
    ]


def split_duplicates(data: DataSet, split: Split) -> list[str]:
    """A line about validation images with the pixels of one that is trained on; none where there are none.

    Raises DataError where the file of `record_duplicates` is damaged.
    """
    path = data.directory / _FILE
    held_out = np.zeros(len(data.train.labels), bool)
    held_out[split.validation] = True
    pairs = []
    try:
        for members in json.loads(path.read_text(encoding="utf-8")):
            trained_on = [name for index, name in members if not held_out[index]]
            pairs += [(name, trained_on[0]) for index, name in members if held_out[index] and trained_on]
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}). Delete its folder; the next start makes it anew.") from error
    return _line(
        f"of {len(split.validation):,} validation images: the same pixels as a training image",
        pairs,
        "Validation errors are too good; remove such images.",
    )


def _line(whose: str, pairs: list[tuple[str, str]], mend: str) -> list[str]:
    return [f"{len(pairs):,} {whose} (such as {' and '.join(pairs[0])}). {mend}"] if pairs else []


def _keys(images: np.ndarray, split: str, progress: Callable[[str, int, int], None]) -> np.ndarray:
    """(n,) uint64: a hash of each image's pixels. Two of a million images share one by chance in 10^-7 of all cases."""
    keys = np.empty(len(images), np.uint64)
    for index, image in enumerate(images):
        if index % _BLOCK == 0:
            progress(f"looking for duplicates of {split} images", index, len(images))
        keys[index] = int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest())
    return keys
