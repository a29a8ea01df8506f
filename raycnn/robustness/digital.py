"""Pixelation and JPEG compression, image by image with Pillow, as the authors do it.

Images are (n, height, width, 3) floats in [0, 1], whole numbers of 255ths. Strengths are the CIFAR ones of
Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from raycnn.robustness.draws import Draws


def pixelate(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Shrink by box averaging and enlarge again."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def through_fewer_pixels(picture: Image.Image) -> Image.Image:
        width, height = picture.size
        small = picture.resize((int(width * share), int(height * share)), Image.Resampling.BOX)
        return small.resize((width, height), Image.Resampling.BOX)

    return _each(images, through_fewer_pixels)


def jpeg_compression(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Compress and decompress."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def through_jpeg(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, through_jpeg)


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    pixels = np.rint(images * 255).astype(np.uint8)
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in pixels]) / 255
