"""Videos of pictures that change a little from frame to frame: the perturbations of CIFAR-10-P.

After Hendrycks & Dietterich 2019, arXiv:1903.12261, with their strengths for CIFAR, which images of another size get
too. Fed with the random numbers of the authors' program, the frames are its frames, to within one step of 255 in some
pixels (`tilt`: a little more); with those drawn here, they agree in distribution.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from raycnn.errors import SpecError
from raycnn.robustness import geometry
from raycnn.robustness.blur import smooth
from raycnn.robustness.colour import raise_value
from raycnn.robustness.draws import Draws, generators, per_image
from raycnn.robustness.motion import blur_along
from raycnn.robustness.spatter import falling_drops
from raycnn.robustness.weather import falling_snow

FRAMES = {
    "gaussian_noise": 31,
    "gaussian_noise_2": 31,
    "gaussian_noise_3": 31,
    "shot_noise": 31,
    "shot_noise_2": 31,
    "shot_noise_3": 31,
    "motion_blur": 21,
    "zoom_blur": 31,
    "snow": 31,
    "brightness": 31,
    "translate": 16,
    "rotate": 31,
    "tilt": 31,
    "scale": 31,
    "speckle_noise": 31,
    "speckle_noise_2": 31,
    "speckle_noise_3": 31,
    "gaussian_blur": 31,
    "spatter": 31,
    "shear": 31,
}
"""Frames of each perturbation's videos. The `_2` and `_3` of the noises are stronger."""

PERTURBATIONS: tuple[str, ...] = tuple(FRAMES)

_CHUNK_PIXELS = 32 * 32 * 32  # of images at a time: 24 MB for all frames in float64


def perturb(
    images: np.ndarray, name: str, seed: int, first_index: int = 0, *, black_spatter_frames: bool = True
) -> np.ndarray:
    """Make a video of each image. Image k of a data set is perturbed in one way by one seed.

    images: (n, height, width, 3) uint8, RGB. first_index: number of images[0] in its data set, so that a chunk comes
    out as it would with the whole. Returns (n, frames, height, width, 3) uint8; values are cut off, not rounded, as
    the authors' are. black_spatter_frames: a frame of `spatter` from which all drops have run down is black, as the
    authors' are, who divide 0 by 0 there; False: it shows the picture.
    Raises SpecError for an unknown perturbation, ValueError for other arrays.
    """
    if name not in FRAMES:
        raise SpecError(f"perturbation {name!r} does not exist. Take one of {', '.join(PERTURBATIONS)}.")
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"perturb wants (n, height, width, 3) uint8, got {images.shape} {images.dtype}")
    out = np.empty((len(images), FRAMES[name], *images.shape[1:]), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // max(1, images.shape[1] * images.shape[2]))
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        draws = generators(seed, f"perturb/{name}", first_index + start, len(part))
        out[start : start + chunk] = perturb_with(draws, part, name, black_spatter_frames=black_spatter_frames)
    return out


def perturb_with(
    draws: Sequence[Any], images: np.ndarray, name: str, *, black_spatter_frames: bool = True
) -> np.ndarray:
    """As `perturb`, with the given generators, one for each image; for replaying another program's random numbers."""
    images = np.ascontiguousarray(images)
    video = partial(_spatter, black=black_spatter_frames) if name == "spatter" else _VIDEOS[name]
    return np.stack(list(video(images, draws)), axis=1)


Video = Callable[[np.ndarray, Sequence[Draws]], Iterator[np.ndarray]]
"""(images as uint8, a generator for each image) -> frames (n, height, width, 3) uint8, one after the other."""


def _gaussian_noise(images: np.ndarray, draws: Sequence[Draws], deviation: float) -> Iterator[np.ndarray]:
    yield images
    shape = (30, 3, *images.shape[1:3])  # the authors draw for torch's order of axes, and add in single precision
    noise = per_image(shape, draws, lambda random, _: random.standard_normal(shape)).astype(np.float32)
    floats = images.astype(np.float32) / np.float32(255)
    for of_frame in noise.transpose(1, 0, 3, 4, 2):
        yield _cut_off(floats + np.float32(deviation) * of_frame)


def _shot_noise(images: np.ndarray, draws: Sequence[Draws], photons: int) -> Iterator[np.ndarray]:
    yield images
    expected = images / 255.0 * photons
    shape = (30, *images.shape[1:])
    counts = per_image(shape, draws, lambda random, i: random.poisson(np.broadcast_to(expected[i], shape)))
    for of_frame in counts.swapaxes(0, 1):
        yield _cut_off(of_frame / photons)


def _speckle_noise(images: np.ndarray, draws: Sequence[Draws], deviation: float) -> Iterator[np.ndarray]:
    yield images
    floats = images / 255.0
    shape = (30, *images.shape[1:])
    noise = per_image(shape, draws, lambda random, _: random.standard_normal(shape))
    for of_frame in noise.swapaxes(0, 1):
        yield _cut_off(floats + floats * (deviation * of_frame))


def _motion_blur(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    """The direction turns by 9 degrees a frame; the last frame is blurred along a row."""
    floats = images / 255.0
    for frame in range(21):
        blurred = blur_along(floats, radius_px=6, sigma_px=1.8, angles_degrees=np.full(len(images), 9.0 * (frame - 20)))
        yield np.rint(blurred * 255).astype(np.uint8)


def _zoom_blur(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    """Each frame is the mean of one enlargement more, in single precision."""
    total = images.astype(np.float32) / np.float32(255)
    yield images
    for frame in range(1, 31):
        total = total + geometry.affine(images, scale=1 + 0.004 * frame).astype(np.float32) / np.float32(255)
        yield _cut_off(total / np.float32(frame + 1))


def _snow(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    yield from map(_cut_off, falling_snow(images / 255.0, draws))


def _brightness(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    for frame in range(31):
        yield _cut_off(raise_value(images / 255.0, (frame - 15) * 1.5 / 100))


def _gaussian_blur(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    for frame in range(31):
        yield _cut_off(smooth(images / 255.0, sigma_px=0.3 + 0.015 * frame, truncate=7))


def _spatter(images: np.ndarray, draws: Sequence[Draws], black: bool) -> Iterator[np.ndarray]:
    floats = images.astype(np.float32) / np.float32(255)
    for light in falling_drops(images.shape[1:3], draws, frames=31):
        frame = _cut_off(floats + light.astype(np.float32))
        if black:
            frame[~light.any(axis=(1, 2, 3))] = 0
        yield frame


def _translate(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    return (geometry.shift_right(images, frame - 7) for frame in range(16))


def _rotate(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    return (geometry.affine(images, degrees=frame - 15) for frame in range(31))


def _scale(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    return (geometry.affine(images, scale=(2 * frame + 70) / 100) for frame in range(31))


def _shear(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    return (geometry.affine(images, shear_degrees=frame - 15) for frame in range(31))


def _tilt(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    return (geometry.tilt(images, degrees=0.75 * (frame - 15)) for frame in range(31))


_VIDEOS: dict[str, Video] = {
    "gaussian_noise": partial(_gaussian_noise, deviation=0.02),
    "gaussian_noise_2": partial(_gaussian_noise, deviation=0.04),
    "gaussian_noise_3": partial(_gaussian_noise, deviation=0.06),
    "shot_noise": partial(_shot_noise, photons=700),
    "shot_noise_2": partial(_shot_noise, photons=400),
    "shot_noise_3": partial(_shot_noise, photons=200),
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
    "speckle_noise": partial(_speckle_noise, deviation=0.05),
    "speckle_noise_2": partial(_speckle_noise, deviation=0.07),
    "speckle_noise_3": partial(_speckle_noise, deviation=0.1),
    "gaussian_blur": _gaussian_blur,
    "shear": _shear,
}


def _cut_off(floats: np.ndarray) -> np.ndarray:
    return (np.clip(floats, 0, 1) * 255).astype(np.uint8)
