"""Snow and fog. (Spatter and frost have modules of their own.)

Images are (n, height, width, 3) floats in [0, 1]; results are not clipped. Strengths are the CIFAR ones of
Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from raycnn.robustness.blur import enlarge
from raycnn.robustness.draws import Draws, per_image
from raycnn.robustness.motion import blur_along


def fog(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Add a cloud and scale back so that the brightest value of the image stays what it was."""
    strength, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    _, height, width, _ = images.shape
    clouds = plasma(max(height, width), decay, draws)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return (images + strength * clouds) * brightest / (brightest + strength)


@dataclasses.dataclass(frozen=True, slots=True)
class _Snow:
    """One severity: flakes are normal noise, enlarged, cut off below `threshold`, blurred along their fall."""

    mean: float
    deviation: float
    zoom: float
    threshold: float
    radius_px: int
    sigma_px: float
    image_share: float  # the rest is the picture whitened


_SNOW = (
    _Snow(0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    _Snow(0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    _Snow(0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    _Snow(0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    _Snow(0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


def falling_snow(images: np.ndarray, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    """The 31 frames of CIFAR-10-P's snow: the same flakes, blurred along a fall that turns by 4 degrees a frame."""
    shape = images.shape[1:3]
    noise = per_image(shape, draws, lambda random, _: random.standard_normal(shape))
    flakes = enlarge((0.05 + 0.3 * noise)[..., None], 2)
    flakes = np.floor(np.where(flakes < 0.5, 0, np.clip(flakes, 0, 1)) * 255) / 255
    ground = _whitened(images, image_share=0.85)
    for frame in range(31):
        fallen = blur_along(flakes, radius_px=10, sigma_px=2, angles_degrees=np.full(len(images), 4.0 * frame - 150))
        yield ground + fallen + fallen[:, ::-1, ::-1]


def snow(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Whiten the picture and let flakes fall: one layer of them, and the same layer turned by half a turn."""
    strength = _SNOW[severity - 1]
    shape = images.shape[1:3]
    angles = np.empty(len(images))

    def noise_and_angle(random: Draws, image: int) -> np.ndarray:
        noise = random.standard_normal(shape)
        angles[image] = random.uniform(-135, -45, ())
        return noise

    noise = strength.mean + strength.deviation * per_image(shape, draws, noise_and_angle)
    flakes = enlarge(noise[..., None], strength.zoom)
    flakes = np.where(flakes < strength.threshold, 0, np.clip(flakes, 0, 1))
    flakes = blur_along(np.floor(flakes * 255) / 255, strength.radius_px, strength.sigma_px, angles)
    return _whitened(images, strength.image_share) + flakes + flakes[:, ::-1, ::-1]


def _whitened(images: np.ndarray, image_share: float) -> np.ndarray:
    """Pictures as under a cloudy sky, mixed with themselves."""
    grey = 0.299 * images[..., 0] + 0.587 * images[..., 1] + 0.114 * images[..., 2]
    whitened = np.maximum(images, grey[..., None] * 1.5 + 0.5)
    return image_share * images + (1 - image_share) * whitened


def plasma(size_px: int, decay: float, draws: Sequence[Draws]) -> np.ndarray:
    """Clouds by the diamond-square algorithm on a torus, (n, side, side) in [0, 1]; side is a power of 2 >= size_px.

    With each halving of the grid, the deviation of the noise that is added falls by decay squared.
    """
    side = 1 << (size_px - 1).bit_length()
    height = np.zeros((len(draws), side, side))
    step, amplitude = side, 1.0
    for for_squares, for_rows, for_columns in _noise_of_levels(side, draws):
        half = step // 2
        corners = height[:, ::step, ::step]
        right, below = np.roll(corners, -1, axis=2), np.roll(corners, -1, axis=1)
        below_right = np.roll(right, -1, axis=1)
        squares = (corners + right + below + below_right) / 4 + amplitude * for_squares
        rows = (corners + right + squares + np.roll(squares, 1, axis=1)) / 4 + amplitude * for_rows
        columns = (corners + below + squares + np.roll(squares, 1, axis=2)) / 4 + amplitude * for_columns
        height[:, half::step, half::step] = squares
        height[:, ::step, half::step] = rows
        height[:, half::step, ::step] = columns
        step, amplitude = half, amplitude / decay**2
    height -= height.min(axis=(1, 2), keepdims=True)
    return height / height.max(axis=(1, 2), keepdims=True)


def _noise_of_levels(side: int, draws: Sequence[Draws]) -> Iterator[np.ndarray]:
    """Noise in [-1, 1] for each grid, coarsest first: (3, n, k, k) for squares, and diamonds on rows and columns."""
    grids = [1 << level for level in range(side.bit_length() - 1)]
    count = 3 * sum(k * k for k in grids)
    noise = per_image((count,), draws, lambda random, _: random.uniform(-1, 1, (count,)))
    start = 0
    for k in grids:
        yield noise[:, start : start + 3 * k * k].reshape(-1, 3, k, k).swapaxes(0, 1)
        start += 3 * k * k
