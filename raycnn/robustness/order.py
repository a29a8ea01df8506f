"""Whether corrupted images lie in the order of the test images that they were made from. Labels do not show it."""

import numpy as np

from raycnn.errors import DataError
from raycnn.robustness.archives import CorruptionFile
from raycnn.robustness.corruptions import SEVERITIES

_LOOKED_AT = 200
_FEWEST = 8  # images, from which chance can be told
_LIKE = 0.5
"""Of the images, the share that must be most like its own clean one. In the right order nearly all are, in a wrong one
about one of `_LOOKED_AT`."""


def refuse_other_order(file: CorruptionFile, clean: np.ndarray) -> None:
    """Compare some images at severity 1 with the test images `clean`, (n, side, side, 3) uint8, of the same rows.

    Raises DataError where they are not made from these: in another order, or of other images.
    """
    rows = np.unique(np.linspace(0, file.n - 1, min(file.n, _LOOKED_AT)).astype(np.int64))
    stored = file.images(read_ahead=False).reshape(-1, *clean.shape[1:])
    if _are_of(stored[rows], clean[rows]):
        return
    count = len(SEVERITIES)
    if _are_of(stored[count * rows], clean[rows]):
        raise DataError(
            f"{file.path}: holds the {count} severities of each image together; all images at severity 1 must come "
            f"first. Save it as images.reshape({file.n}, {count}, *images.shape[1:]).swapaxes(0, 1).reshape("
            "images.shape)."
        )
    raise DataError(
        f"{file.path}: its first {file.n} images are not the first {file.n} test images at severity 1. Give files that "
        "were made from these test images, in their order."
    )


def _are_of(corrupted: np.ndarray, clean: np.ndarray) -> bool:
    """Whether most are more like the clean image of the same row than like any other. Too few or plain ones are."""
    ours, theirs = (_patterns(images) for images in (corrupted, clean))
    told_apart = np.flatnonzero(ours.any(axis=1) & theirs.any(axis=1))
    if len(told_apart) < _FEWEST:
        return True
    likeness = ours[told_apart] @ theirs[told_apart].T
    return bool((likeness.argmax(axis=1) == np.arange(len(told_apart))).mean() >= _LIKE)


def _patterns(images: np.ndarray) -> np.ndarray:
    """(n, values), each with mean 0 and length 1, so that products are correlations; zeros for a plain image."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 1e-3)
