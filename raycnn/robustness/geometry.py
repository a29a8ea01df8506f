"""Pictures moved, turned, scaled, sheared and tilted: each map a sparse matrix over the pixels, for all images at once.

Places are (x, y) in pixels; interpolation is linear. What comes from outside the picture is black.
"""

import functools
import math

import numpy as np
from scipy import sparse

from raycnn.robustness.blur import over_pixels


def shift_right(images: np.ndarray, pixels: int) -> np.ndarray:
    """(n, height, width, 3), moved to the right by a whole number of pixels, or to the left by a negative one."""
    moved = np.zeros_like(images)
    width = images.shape[2]
    columns = np.arange(max(pixels, 0), min(width + pixels, width))
    moved[:, :, columns] = images[:, :, columns - pixels]
    return moved


def affine(images: np.ndarray, degrees: float = 0, scale: float = 1, shear_degrees: float = 0) -> np.ndarray:
    """(n, height, width, 3) uint8, turned clockwise, enlarged, and sheared about their middle, as Pillow does it.

    Returns the same type; values are cut off, not rounded. The outermost pixels reach half a pixel further.
    """
    height, width = images.shape[1:3]
    return _cut_off(_affine(height, width, float(degrees), float(scale), float(shear_degrees)), images)


def tilt(images: np.ndarray, degrees: float) -> np.ndarray:
    """(n, height, width, 3) uint8, turned in space about both axes by `degrees`, and seen in perspective.

    The eye is as far from the picture's middle as the picture's diagonal, plus 1: without a tilt, too, the picture is
    a little smaller. Returns the same type, rounded. (OpenCV before 5 rounds places to 32nds of a pixel.)
    """
    height, width = images.shape[1:3]
    return np.rint(over_pixels(_perspective(height, width, float(degrees)), images.astype(np.float64))).astype(np.uint8)


@functools.lru_cache(maxsize=128)
def _affine(height: int, width: int, degrees: float, scale: float, shear_degrees: float) -> sparse.csr_array:
    turn, shear = math.radians(degrees), math.tan(math.radians(shear_degrees))
    cos, sin = math.cos(turn), math.sin(turn)
    # From a place on the new picture, seen from its middle, to the one on the old.
    back = np.array([[cos - sin * shear, sin + cos * shear], [-sin, cos]]) / scale
    middle = np.array([width, height]) / 2
    places = _places(height, width) + 0.5
    old = (places - middle) @ back.T + middle
    inside = np.all((old >= 0) & (old < np.array([width, height])), axis=2)
    return _interpolation(old - 0.5, inside, repeat_border=True)


@functools.lru_cache(maxsize=128)
def _perspective(height: int, width: int, degrees: float) -> sparse.csr_array:
    angle, distance = math.radians(degrees), math.hypot(width, height)
    cos, sin = math.cos(angle), math.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    turned = about_x @ about_y
    # (x, y, 1) on the old picture -> (x, y, z) in space -> (x w, y w, w) on the new picture.
    placed = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    seen = np.array([[distance, 0, width / 2], [0, distance, height / 2], [0, 0, 1]])
    in_space = turned @ placed + np.array([[0, 0, 0], [0, 0, 0], [0, 0, distance]])
    back = np.linalg.inv(seen @ in_space)
    places = _places(height, width)
    old = np.concatenate([places, np.ones((*places.shape[:-1], 1))], axis=-1) @ back.T
    old = old[..., :2] / old[..., 2:]
    return _interpolation(old, np.ones(old.shape[:-1], dtype=bool), repeat_border=False)


def _places(height: int, width: int) -> np.ndarray:
    """(height, width, 2): x and y of each pixel."""
    y, x = np.mgrid[:height, :width].astype(float)
    return np.stack([x, y], axis=-1)


def _interpolation(old: np.ndarray, inside: np.ndarray, repeat_border: bool) -> sparse.csr_array:
    """A matrix over the pixels from places on the old picture, (height, width, 2), of which `inside` are not black.

    repeat_border: what is next to the border is interpolated with the border itself, else with black.
    """
    height, width = old.shape[:2]
    size = np.array([width, height])
    low = np.floor(old)
    share = old - low
    pixels = np.arange(height * width).reshape(height, width)
    rows, columns, weights = [], [], []
    for right in (0, 1):
        for below in (0, 1):
            corner = (low + np.array([right, below])).astype(np.intp)
            weight = np.abs(1 - right - share[..., 0]) * np.abs(1 - below - share[..., 1])
            used = inside & (weight > 0)
            if repeat_border:
                corner = np.clip(corner, 0, size - 1)
            else:
                used &= ((corner >= 0) & (corner < size)).all(axis=-1)
            rows.append(pixels[used])
            columns.append((corner[..., 1] * width + corner[..., 0])[used])
            weights.append(weight[used])
    places = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(sparse.coo_array(places, shape=(height * width,) * 2))


def _cut_off(operator: sparse.csr_array, images: np.ndarray) -> np.ndarray:
    # Of weights that do not quite sum to 1, the grey of a plain picture would else come out one step darker.
    return np.floor(over_pixels(operator, images.astype(np.float64)) + 1e-9).astype(np.uint8)
