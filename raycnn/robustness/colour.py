"""Brightness, contrast and saturation.

Images are (n, height, width, 3) floats in [0, 1]; results are not clipped. Strengths are the CIFAR ones of
Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

from collections.abc import Sequence

import numpy as np

from raycnn.robustness.draws import Draws


def brightness(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Raise the value of each pixel (V of HSV), hue and saturation kept."""
    return raise_value(images, (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1])


def contrast(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Draw each channel towards its mean over the image."""
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * factor + means


def saturate(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Scale and shift the saturation of each pixel (S of HSV), hue and value kept.

    A grey pixel has no hue; HSV calls it red, so a shift tints it reddish, as the authors' does.
    """
    factor, shift = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    value = _over_channels(np.maximum, images)
    chroma = value - _over_channels(np.minimum, images)
    saturation = chroma / np.where(value > 0, value, 1)
    wanted = np.clip(saturation * factor + shift, 0, 1)
    # Of the distance of each channel below the value, in units of the value: 0 for the largest, `saturation` for the
    # smallest. Hue is what stays when they are scaled together.
    coloured = chroma > 0
    depth = np.where(coloured, (value - images) / np.where(coloured, chroma, 1), (0.0, 1.0, 1.0))
    return value * (1 - wanted * depth)


def raise_value(images: np.ndarray, shift: float) -> np.ndarray:
    """Images with V of HSV raised by `shift` and clipped to [0, 1]: all channels scaled alike, black made grey."""
    value = _over_channels(np.maximum, images)
    raised = np.clip(value + shift, 0, 1)
    return np.where(value > 0, images * (raised / np.where(value > 0, value, 1)), raised)


def _over_channels(either: np.ufunc, images: np.ndarray) -> np.ndarray:
    """As a reduction over the last axis of three, kept; a third of its time."""
    return either(either(images[..., :1], images[..., 1:2]), images[..., 2:])
