"""Spatter: drops of water or splashes of mud, after Hendrycks & Dietterich 2019, arXiv:1903.12261 (CIFAR strengths).

The authors draw water with a chain of OpenCV's 8-bit operations, whose rounding decides how drops look. They are
written out here for a whole batch, (n, height, width) at a time.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from raycnn.robustness.blur import smooth
from raycnn.robustness.draws import Draws, per_image


@dataclasses.dataclass(frozen=True, slots=True)
class _Strength:
    """One severity. Liquid is smoothed normal noise; where it is above `threshold`, there is a drop."""

    mean: float
    deviation: float
    sigma_px: float
    threshold: float
    opacity: float = 0.0  # of water
    mud_sigma_px: float = 0.0  # softens the border of mud; 0: the liquid is water


_STRENGTHS = (
    _Strength(0.62, 0.1, 0.7, 0.7, opacity=0.5),
    _Strength(0.65, 0.1, 0.8, 0.7, opacity=0.5),
    _Strength(0.65, 0.3, 1.0, 0.69, opacity=0.5),
    _Strength(0.65, 0.1, 0.7, 0.69, mud_sigma_px=0.6),
    _Strength(0.65, 0.1, 0.5, 0.68, mud_sigma_px=0.6),
)
_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255


def spatter(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Water at severities 1 to 3, mud at 4 and 5. images: (n, height, width, 3) floats in [0, 1]; not clipped."""
    strength = _STRENGTHS[severity - 1]
    shape = images.shape[1:3]
    noise = per_image(shape, draws, lambda random, _: random.standard_normal(shape))
    liquid = smooth(strength.mean + strength.deviation * noise, strength.sigma_px)
    if strength.mud_sigma_px:
        mud = smooth((liquid > strength.threshold).astype(float), strength.mud_sigma_px)
        mud = np.where(mud < 0.8, 0, mud)[..., None]
        return images * (1 - mud) + _MUD * mud
    # Above 1, a byte overflows: rare dark specks in the brightest drops of severity 3, as in the authors' pictures.
    drops = np.where(liquid < strength.threshold, 0, liquid * 255).astype(np.int32) & 255
    return images + strength.opacity * water(drops)[..., None] * _WATER


def falling_drops(shape: tuple[int, int], draws: Sequence[Draws], frames: int) -> Iterator[np.ndarray]:
    """The light of CIFAR-10-P's water, (n, height, width, 3) for each frame: from one to the next, drops run down."""
    noise = per_image(shape, draws, lambda random, _: random.standard_normal(shape))
    liquid = smooth(0.6 + 0.265 * noise, sigma_px=1.75)
    liquid = np.where(liquid < 0.7, 0, liquid)
    for _ in range(frames):
        yield 0.6 * water((liquid * 255).astype(np.int32) & 255)[..., None] * _WATER
        liquid = 0.2 * liquid + 0.8 * np.pad(liquid, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def water(drops: np.ndarray) -> np.ndarray:
    """The light on drops, in [0, 1]: their shading by the distance from their edges, 1 where it is brightest.

    drops: (n, height, width) int32, 0..255. A picture without light stays as it is; the authors divide 0 by 0
    there, which blackens the picture, but with these strengths hardly one of 32 x 32 pixels lacks it.
    """
    distance = np.minimum(_distance_to(edges(drops, low=50, high=150)), 20)
    relief = _equalized(np.floor(_box(distance)).astype(np.int32))
    below, right = _neighbour(relief, 1, 0), _neighbour(relief, 0, 1)
    above, left = _neighbour(relief, -1, 0), _neighbour(relief, 0, -1)
    # Lit from the lower right.
    lit = 2 * (_neighbour(relief, 1, 1) - _neighbour(relief, -1, -1)) + below + right - above - left + relief
    light = drops * np.rint(_box(np.clip(lit, 0, 255)))
    brightest = light.max(axis=(1, 2), keepdims=True)
    return np.divide(light, brightest, out=np.zeros(light.shape), where=brightest > 0)


def edges(pictures: np.ndarray, low: int, high: int) -> np.ndarray:
    """Canny's edges, booleans, of pictures (n, height, width) int32, 0..255, by the gradient |dx| + |dy| of Sobel.

    A pixel is a candidate above `low` where the gradient is largest along its direction (in eighths of a turn); an edge
    is a candidate above `high`, or one that candidates join to such a one. Canny 1986.
    """
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dx = rows[:, :, 2:] - rows[:, :, :-2]
    dy = columns[:, 2:] - columns[:, :-2]
    strength = np.abs(dx) + np.abs(dy)

    def beside(down: int, right: int) -> np.ndarray:
        return _neighbour(strength, down, right, mode="constant")

    # Tangents of an eighth of a turn's half, in 2**15ths, as OpenCV rounds them: tan 67.5 = 2 + tan 22.5.
    steep, flat = np.abs(dy) << 15, np.abs(dx) * 13573
    horizontal, vertical = steep < flat, steep > flat + (np.abs(dx) << 16)
    falling = (dx < 0) == (dy < 0)  # the gradient points to the lower right or the upper left
    largest = np.select(
        [horizontal, vertical, falling],
        [
            (strength > beside(0, -1)) & (strength >= beside(0, 1)),
            (strength > beside(-1, 0)) & (strength >= beside(1, 0)),
            (strength > beside(-1, -1)) & (strength > beside(1, 1)),
        ],
        (strength > beside(-1, 1)) & (strength > beside(1, -1)),
    )
    candidates = largest & (strength > low)
    in_picture = np.zeros((3, 3, 3), dtype=bool)
    in_picture[1] = True
    return ndimage.binary_propagation(candidates & (strength > high), structure=in_picture, mask=candidates)


def _distance_to(marked: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest marked one by steps of 1, 1.4 (diagonal) and 2.1969 (a knight's move).

    These are the chamfer distances by which OpenCV approximates the Euclidean one, in its 65536ths. Far more than any
    picture's diagonal where nothing is marked.
    """
    straight, diagonal, knight = 65536, round(1.4 * 65536), round(2.1969 * 65536)
    distance = np.where(marked, np.int32(0), np.int32(1 << 29))
    reach = ((0, 1, straight), (1, 0, straight), (1, 1, diagonal), (1, -1, diagonal))
    reach += ((1, 2, knight), (1, -2, knight), (2, 1, knight), (2, -1, knight))
    while True:
        before = distance
        padded = np.pad(distance, ((0, 0), (2, 2), (2, 2)), constant_values=1 << 29)
        for down, right, cost in reach:
            for y, x in ((down, right), (-down, -right)):
                there = padded[:, 2 + y : 2 + y + marked.shape[1], 2 + x : 2 + x + marked.shape[2]]
                distance = np.minimum(distance, there + cost)
        if np.array_equal(distance, before):
            return distance / 65536


def _equalized(pictures: np.ndarray) -> np.ndarray:
    """Histogram equalisation of each picture of whole numbers 0..255, the darkest value made 0; flat ones kept."""
    count = len(pictures)
    flat = pictures.reshape(count, -1)
    histogram = np.bincount((flat + 256 * np.arange(count)[:, None]).ravel(), minlength=256 * count)
    up_to = histogram.reshape(count, 256).cumsum(axis=1)
    total = flat.shape[1]
    darkest = np.take_along_axis(up_to, flat.min(axis=1, keepdims=True), axis=1)
    rest = np.maximum(total - darkest, 1)
    table = np.where(darkest == total, np.arange(256), np.rint((up_to - darkest) * np.float32(255) / rest))
    return np.take_along_axis(np.maximum(table, 0), flat, axis=1).reshape(pictures.shape).astype(np.int32)


def _box(pictures: np.ndarray) -> np.ndarray:
    """Mean of 3 x 3 pixels."""
    nine = [_neighbour(pictures, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.sum(nine, axis=0) / 9


def _neighbour(
    pictures: np.ndarray, down: int, right: int, mode: Literal["reflect", "constant"] = "reflect"
) -> np.ndarray:
    """Each pixel's neighbour (one step at most); beyond the border the pictures are mirrored, or 0."""
    height, width = pictures.shape[1:]
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode=mode)
    return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
