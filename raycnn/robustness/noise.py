"""Noise: Gaussian, shot, impulse and speckle, each image from a generator of its own.

Images are (n, height, width, 3) floats in [0, 1]; results are not clipped. Strengths are the CIFAR ones of
Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

from collections.abc import Sequence

import numpy as np

from raycnn.robustness.draws import Draws, per_image


def gaussian_noise(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Add normal noise, as from a sensor in low light."""
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + deviation * _standard_normal(images, draws)


def speckle_noise(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Add normal noise in proportion to the brightness of each channel."""
    deviation = (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1]
    return images + deviation * images * _standard_normal(images, draws)


def shot_noise(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Count photons: Poisson noise, fewer photons for white at higher severities."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    expected = images * photons
    return per_image(expected.shape[1:], draws, lambda random, image: random.poisson(expected[image])) / photons


def impulse_noise(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Set a share of the channel values to 0 or 1 (salt and pepper), each with probability one half."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    shape = images.shape[1:]
    hit = per_image(shape, draws, lambda random, _: random.random(shape)) <= share
    salt = per_image(shape, draws, lambda random, _: random.random(shape)) <= 0.5
    return np.where(hit, salt, images)


def _standard_normal(images: np.ndarray, draws: Sequence[Draws]) -> np.ndarray:
    return per_image(images.shape[1:], draws, lambda random, _: random.standard_normal(images.shape[1:]))
