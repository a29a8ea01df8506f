"""Blurs: Gaussian, defocus, frosted glass and zoom. (Motion blur is in `motion`.)

Images are (n, height, width, 3) floats in [0, 1]; results are not clipped. Strengths are the CIFAR ones of
Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from raycnn.robustness.draws import Draws, per_image


def gaussian_blur(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    return smooth(images, sigma_px=(0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1])


def defocus_blur(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Convolve with a disk whose border is softened; below a radius of 1 the disk is a single pixel."""
    radius_px, softness_px = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    reach = math.ceil(radius_px) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius_px**2).astype(float)
    # The softening filter is cut to 3 x 3 pixels, however wide.
    tap = math.exp(-1 / (2 * softness_px**2))
    taps = np.array([tap, 1, tap]) / (1 + 2 * tap)
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(taps, taps), mode="constant")
    return ndimage.correlate(images, kernel[None, :, :, None], mode="mirror")


def glass_blur(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Blur, let each pixel take the value of a random neighbour up or to the left, blur again.

    The authors mean to exchange the two pixels, but both sides of their exchange are views of one array, so the second
    assignment copies back what the first wrote. They visit pixels from the lower right, so every pixel that is
    read still has its old value, and a round is one gather.
    """
    sigma_px, reach_px, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    count, height, width, _ = images.shape
    # The values that move are whole numbers of 0..255, as between the authors' two blurs.
    pixels = np.floor(smooth(images, sigma_px) * 255)
    rows = np.arange(reach_px + 1, height)
    columns = np.arange(reach_px + 1, width)
    shape = (rounds, len(rows), len(columns), 2)
    steps = per_image(shape, draws, lambda random, _: random.integers(-reach_px, reach_px, shape)).astype(np.intp)
    steps = steps[:, :, ::-1, ::-1]  # drawn in the order of the visits
    for across, down in zip(steps[..., 0].swapaxes(0, 1), steps[..., 1].swapaxes(0, 1), strict=True):
        moved = pixels.copy()
        moved[:, rows[0] :, columns[0] :] = pixels[
            np.arange(count)[:, None, None], rows[:, None] + down, columns + across
        ]
        pixels = moved
    return smooth(pixels / 255, sigma_px)


def zoom_blur(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Average the image with enlargements of it, as while a camera moves towards it."""
    return over_pixels(_zoom_blur_operator(images.shape[1], images.shape[2], severity), images)


@functools.lru_cache(maxsize=10)
def _zoom_blur_operator(height: int, width: int, severity: int) -> sparse.csr_array:
    """The blur as one matrix over the pixels: a tenth of the time of enlarging each picture 6 to 26 times."""
    largest = (0.06, 0.11, 0.16, 0.21, 0.26)[severity - 1]
    factors = np.arange(1, 1 + largest, 0.01)
    total = sparse.eye_array(height * width, format="csr")
    for factor in factors:
        total = total + _enlargement(height, width, float(factor))
    return sparse.csr_array(total / (len(factors) + 1))


def smooth(images: np.ndarray, sigma_px: float, truncate: float = 4) -> np.ndarray:
    """Gaussian filter of the two middle axes of (n, height, width, …), edges repeated, cut at `truncate` sigma."""
    sigmas = (0, sigma_px, sigma_px) + (0,) * (images.ndim - 3)
    return ndimage.gaussian_filter(images, sigmas, mode="nearest", truncate=truncate)


def enlarge(images: np.ndarray, factor: float) -> np.ndarray:
    """The middle of each of (n, height, width, channels), enlarged by `factor` >= 1 with linear interpolation."""
    return over_pixels(_enlargement(images.shape[1], images.shape[2], factor), images)


def _enlargement(height: int, width: int, factor: float) -> sparse.csr_array:
    """`enlarge` as a matrix over the pixels of a picture."""
    return sparse.csr_array(sparse.kron(_enlargement_of_axis(height, factor), _enlargement_of_axis(width, factor)))


def _enlargement_of_axis(size: int, factor: float) -> sparse.csr_array:
    """Crop the middle, interpolate, crop the middle again."""
    crop = math.ceil(size / factor)
    first = (size - crop) // 2
    cropped = np.eye(size)[first : first + crop]
    zoomed = np.asarray(ndimage.zoom(cropped, (factor, 1), order=1))
    trim = (len(zoomed) - size) // 2
    return sparse.csr_array(zoomed[trim : trim + size])


def over_pixels(operator: sparse.csr_array, images: np.ndarray) -> np.ndarray:
    """Apply a matrix over the pixels of a picture. Unlike BLAS, it rounds alike for every number of images."""
    count, height, width, channels = images.shape
    pixels = operator @ np.moveaxis(images, 0, -2).reshape(height * width, count * channels)
    return np.ascontiguousarray(np.moveaxis(pixels.reshape(height, width, count, channels), -2, 0))
