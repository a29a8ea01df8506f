"""Corrupted images: the 15 test corruptions of CIFAR-10-C and the 4 that its authors reserve for validation.

After Hendrycks & Dietterich 2019, arXiv:1903.12261, with their strengths for CIFAR, which images of another size get
too. Fed with the random numbers of the authors' program, all but `frost` give its images, to within one step of 255 in
some pixels; with those drawn here, they agree in distribution. `frost` has ice of its own making, unless it is given
the authors' photographs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from raycnn.errors import SpecError
from raycnn.robustness import blur, colour, digital, noise
from raycnn.robustness.draws import Draws, generators
from raycnn.robustness.elastic import elastic_transform
from raycnn.robustness.frost import Textures, frost
from raycnn.robustness.motion import motion_blur
from raycnn.robustness.spatter import spatter
from raycnn.robustness.weather import fog, snow

Corruption = Callable[[np.ndarray, int, Sequence[Draws]], np.ndarray]
"""(images as floats in [0, 1], severity, a generator for each image) -> floats that are yet to be clipped."""

_CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "elastic_transform": elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": spatter,
    "saturate": colour.saturate,
}

CORRUPTIONS: tuple[str, ...] = tuple(_CORRUPTIONS)
TEST_CORRUPTIONS, VALIDATION_CORRUPTIONS = CORRUPTIONS[:15], CORRUPTIONS[15:]
SEVERITIES = (1, 2, 3, 4, 5)

# So many images at a time stay in the processor's cache: 2 MB of float64 at 32 x 32.
_CHUNK_PIXELS = 96 * 32 * 32


def corrupt(
    images: np.ndarray, name: str, severity: int, seed: int, first_index: int = 0, textures: Textures | None = None
) -> np.ndarray:
    """Corrupt images with a severity of 1 to 5. Image k of a data set is changed in one way by one seed.

    images: (n, height, width, 3) uint8, RGB. first_index: number of images[0] in its data set, so that a chunk comes
    out as it would with the whole. textures: of frost, in place of procedural ice; others ignore them.
    Returns a new array of the same shape and type; values are cut off, not rounded, as the authors' are.
    Raises SpecError for an unknown corruption or severity, DataError for textures smaller than the images, ValueError
    for other arrays.
    """
    if name not in _CORRUPTIONS:
        raise SpecError(f"corruption {name!r} does not exist. Take one of {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise SpecError(f"{name}: severity goes from 1 to 5 in whole steps, got {severity!r}.")
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"corrupt wants (n, height, width, 3) uint8, got {images.shape} {images.dtype}")
    out = np.empty(images.shape, np.uint8)
    chunk = max(1, _CHUNK_PIXELS // max(1, images.shape[1] * images.shape[2]))
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        draws = generators(seed, f"{name}/{severity}", first_index + start, len(part))
        out[start : start + chunk] = corrupt_with(draws, part, name, severity, textures)
    return out


def corrupt_with(
    draws: Sequence[Any], images: np.ndarray, name: str, severity: int, textures: Textures | None = None
) -> np.ndarray:
    """As `corrupt`, with the given generators, one for each image; for replaying another program's random numbers."""
    # In C order, or sums over pixels would be rounded otherwise for the same pixels in another layout.
    floats = np.divide(images, 255.0, order="C")
    if name == "frost" and textures:
        changed = frost(floats, severity, draws, textures)
    else:
        changed = _CORRUPTIONS[name](floats, severity, draws)
    return (np.clip(changed, 0, 1) * 255).astype(np.uint8)


def validation_corruptions(images: np.ndarray, seed: int) -> np.ndarray:
    """All validation corruptions at all severities: (4, 5, n, height, width, 3) uint8, in their order above."""
    return np.stack(
        [
            np.stack([corrupt(images, name, severity, seed) for severity in SEVERITIES])
            for name in VALIDATION_CORRUPTIONS
        ]
    )
