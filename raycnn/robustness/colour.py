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
    value = images.max(axis=-1, keepdims=True)
    chroma = value - images.min(axis=-1, keepdims=True)
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.clip(saturation * factor + shift, 0, 1)
    # Of the distance of each channel below the value, in units of the value: 0 for the largest, `saturation` for the
    # smallest. Hue is what stays when they are scaled together.
    depth = np.divide(
        value - images, chroma, out=np.broadcast_to([0.0, 1.0, 1.0], images.shape).copy(), where=chroma > 0
    )
    return value * (1 - wanted * depth)


def raise_value(images: np.ndarray, shift: float) -> np.ndarray:
    """Images with V of HSV raised by `shift` and clipped to [0, 1]: all channels scaled alike, black made grey."""
    value = images.max(axis=-1, keepdims=True)
    raised = np.clip(value + shift, 0, 1)
    return np.where(value > 0, images * np.divide(raised, value, out=np.zeros_like(value), where=value > 0), raised)
