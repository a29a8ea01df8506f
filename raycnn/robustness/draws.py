"""Random numbers for a batch of images that do not depend on the batch: every image has a generator of its own."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Draws(Protocol):
    """What a corruption asks of a generator; numpy's Generator has it all.

    A protocol, so that the tests can replay the legacy generator with which the reference outputs were made.
    """

    def standard_normal(self, size: tuple[int, ...]) -> Any: ...
    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Any: ...
    def random(self, size: tuple[int, ...]) -> Any: ...
    def poisson(self, lam: Any) -> Any: ...
    def integers(self, low: int, high: int, size: tuple[int, ...]) -> Any: ...


def generators(seed: int, stream: str, first_index: int, count: int) -> list[Draws]:
    """One generator for each of the images first_index, first_index + 1, …: a function of seed, stream and index.

    Philox is counter-based: the key holds seed and stream, the highest word of the counter the index, so no two
    images can overlap. Seeds lie in [0, 2**64).
    """
    key = np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)
    counters = np.zeros((count, 4), dtype=np.uint64)
    counters[:, 3] = np.arange(first_index, first_index + count, dtype=np.uint64)
    return [np.random.Generator(np.random.Philox(key=key, counter=counter)) for counter in counters]


def per_image(shape: tuple[int, ...], draws: Sequence[Draws], draw: Callable[[Draws, int], Any]) -> np.ndarray:
    """draw(generator, number of the image in the batch) for each image: float64 (images, *shape)."""
    out = np.empty((len(draws), *shape))
    for image, random in enumerate(draws):
        out[image] = draw(random, image)
    return out
