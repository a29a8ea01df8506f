"""Efron's bootstrap over images, the same images for all models."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

REPLICATES = 4000
_SEED = 0  # a report made twice says the same
_BLOCK = 100  # replicates at once
_KEPT_IMAGES = 50_000  # of which weights take 200 MB; those of more are drawn again each time


def resampled(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of replicates of the means over images, (replicates, seeds, …); images are the same for all calls.

    samples: (seeds, images, …).
    """
    seeds, images = samples.shape[:2]
    flat = np.moveaxis(samples, 0, 1).reshape(images, -1).astype(np.float32)
    means = flat.mean(axis=0, dtype=np.float64)
    flat -= means.astype(np.float32)  # about their means, float32 loses nothing
    for weights in _weights(images):
        drawn = (weights @ flat).astype(np.float64) / images + means
        yield drawn.reshape(len(weights), seeds, *samples.shape[2:])


def _weights(images: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, (replicates, images) float32, block by block, always the same."""
    blocks = _kept(images) if images <= _KEPT_IMAGES else _drawn(images)
    yield from (block.astype(np.float32) for block in blocks)


@lru_cache(maxsize=2)
def _kept(images: int) -> list[np.ndarray]:
    return list(_drawn(images))


def _drawn(images: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng([_SEED, images])
    rows = np.arange(_BLOCK, dtype=np.int32)[:, None] * images
    for _ in range(0, REPLICATES, _BLOCK):
        drawn = random.integers(0, images, (_BLOCK, images), dtype=np.int32) + rows
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * images).reshape(_BLOCK, images).astype(np.uint8)
