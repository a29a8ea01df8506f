"""Motion blur along a line at any angle, as ImageMagick makes it, and the corruption of that name."""

from collections.abc import Sequence

import numpy as np

from raycnn.robustness.draws import Draws, per_image


def motion_blur(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Move the camera at an angle of -45 to 45 degrees, each image at its own.

    images: (n, height, width, 3) floats in [0, 1]. Strengths are the CIFAR ones of Hendrycks & Dietterich 2019,
    arXiv:1903.12261.
    """
    radius_px, sigma_px = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    angles = per_image((), draws, lambda random, _: random.uniform(-45, 45, ()))
    return blur_along(images, radius_px, sigma_px, angles)


def blur_along(images: np.ndarray, radius_px: int, sigma_px: float, angles_degrees: np.ndarray) -> np.ndarray:
    """Half a Gaussian along a line from each pixel: the weighted mean of 2 * radius + 1 pixels. Edges are repeated.

    images: (n, height, width, channels) floats in [0, 1]; angles_degrees: (n,). Returns whole numbers of 255ths, as
    ImageMagick's MotionBlurImage does: pixels on the line are the nearest ones, not interpolated.
    """
    count, height, width, channels = images.shape
    steps = np.arange(2 * radius_px + 1)
    weights = np.exp(-(steps**2) / (2 * sigma_px**2))
    weights /= weights.sum()
    # In ImageMagick's order of operations: at 30 degrees every other step falls on the border between two pixels.
    radians = angles_degrees[:, None] * np.pi / 180
    along, across = len(steps) * np.cos(radians), len(steps) * np.sin(radians)
    right = np.ceil(steps * along / np.hypot(across, along) - 0.5).astype(np.intp)  # (n, steps)
    down = np.ceil(steps * across / np.hypot(across, along) - 0.5).astype(np.intp)

    # One gather of whole pixels for each step.
    pixels = np.ascontiguousarray(images).reshape(-1, channels)
    first = (np.arange(count) * (height * width))[:, None]
    blurred, there = np.zeros_like(pixels), np.empty_like(pixels)
    for step, weight in enumerate(weights):
        rows = first + width * np.clip(np.arange(height) + down[:, step, None], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, step, None], 0, width - 1)
        places = (rows[:, :, None] + columns[:, None, :]).reshape(-1)
        np.take(pixels, places, axis=0, out=there, mode="clip")
        there *= weight
        blurred += there
    blurred = blurred.reshape(images.shape)
    return np.floor(blurred * 255 + 1e-9) / 255
