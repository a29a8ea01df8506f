"""The split of the training images: what a search trains on, and what it measures its trials with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raycnn.errors import SpecError

_MOST_NAMED = 5  # classes


@dataclass(frozen=True, slots=True)
class Split:
    """train, validation: ascending int64 indices of training images, disjoint, together all of them.

    digest: sha256 over `train`, then `validation`, as little-endian int64.
    """

    train: np.ndarray
    validation: np.ndarray
    digest: str


def stratified_split(labels: np.ndarray, validation: int | float, seed: int, class_names: Sequence[str] = ()) -> Split:
    """Hold out `validation` images (a count, or a fraction in (0, 1)), of each class its share. Same seed, same split.

    labels: (n,) integers. class_names: of each label, for messages. Of every class at least one image is held out and
    one is left to train on; but for that, each class's count is its exact share rounded up or down. Raises SpecError
    where that cannot be.
    """
    labels = np.asarray(labels)
    classes, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if single := [str(class_names[label] if class_names else label) for label in classes[sizes < 2]]:
        named = ", ".join(single[:_MOST_NAMED]) + (", …" if len(single) > _MOST_NAMED else "")
        raise SpecError(
            f"data.validation: a split needs two training images of each class, and there is one of {named}. "
            "Add images."
        )
    held_out = _shares(sizes, validation)
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(labels)), of_class))
    place_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(len(labels), bool)
    chosen[shuffled] = place_in_class < np.repeat(held_out, sizes)
    train, validation_ = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    digest = hashlib.sha256(train.astype("<i8").tobytes() + validation_.astype("<i8").tobytes()).hexdigest()
    return Split(train, validation_, digest)


def _shares(sizes: np.ndarray, validation: int | float) -> np.ndarray:
    """How many images of each class are held out: in proportion to `sizes`, at least 1 and at most all but one."""
    images, classes = int(sizes.sum()), len(sizes)
    wanted = round(validation * images) if isinstance(validation, float) else validation
    asked = f"data.validation: {validation}" + (f" ({wanted} images)" if isinstance(validation, float) else "")
    if wanted < classes:
        raise SpecError(f"{asked} is fewer than one image of each of {classes} classes. Set {classes} or more.")
    if wanted > images - classes:
        raise SpecError(
            f"{asked} of {images} leaves fewer than one image of each of {classes} classes to train on. "
            f"Set {images - classes} or fewer."
        )
    exact = sizes * wanted / images
    shares = np.clip(exact.astype(np.int64), 1, sizes - 1)
    while (short := wanted - shares.sum()) != 0:  # at most once for each class
        step = np.sign(short)
        free = (shares + step >= 1) & (shares + step < sizes)
        shares[np.where(free, (exact - shares) * step, -np.inf).argmax()] += step
    return shares
