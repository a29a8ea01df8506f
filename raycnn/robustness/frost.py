"""Frost: the picture seen through an iced pane.

The authors lay crops of five photographs over the pictures. Here the ice is procedural: five textures whose colours,
deviations and share of coarse structure were fitted to what their output for 128 CIFAR-10 test images shows of the
photographs. Errors on this frost are therefore not those of CIFAR-10-C's; a report has to say so.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from raycnn.robustness.blur import smooth
from raycnn.robustness.draws import Draws


@dataclasses.dataclass(frozen=True, slots=True)
class _Ice:
    """A texture in 255ths: its colour, how far a crop's mean strays from it, how far a pixel strays from that."""

    colour: tuple[int, int, int]
    crop_deviation: float
    pixel_deviation: tuple[float, float, float]
    coarse: float  # share of the pixels' variance in structures of some ten pixels; the rest is grain


_ICE = (
    _Ice((72, 146, 164), 9, (20, 13, 13), 0.45),
    _Ice((196, 200, 209), 8, (18, 18, 19), 0.25),
    _Ice((204, 209, 219), 8, (18, 18, 19), 0.25),
    _Ice((140, 157, 169), 11, (28, 28, 28), 0.2),
    _Ice((94, 106, 118), 10, (33, 33, 32), 0.15),
)


def frost(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Add ice to the dimmed picture. images: (n, height, width, 3) floats in [0, 1]; the result is not clipped.

    Weights are the CIFAR ones of Hendrycks & Dietterich 2019, arXiv:1903.12261.
    """
    image_weight, ice_weight = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    return image_weight * images + ice_weight * _ice(images.shape[1:3], draws)


def _ice(shape: tuple[int, int], draws: Sequence[Draws]) -> np.ndarray:
    """A texture for each image, (n, height, width, 3) in [0, 1]."""
    kinds = [_ICE[int(random.integers(0, len(_ICE), ()))] for random in draws]
    noise = np.stack([random.standard_normal((3, *shape)) for random in draws])
    grain, coarse = _unit(smooth(noise[:, 0], 0.5)), _unit(smooth(noise[:, 1], 4.0))
    share = np.array([kind.coarse for kind in kinds])[:, None, None]
    relief = np.sqrt(1 - share) * grain + np.sqrt(share) * coarse
    crop = noise[:, 2, :1, :1] * np.array([kind.crop_deviation for kind in kinds])[:, None, None]
    colour = np.array([kind.colour for kind in kinds])[:, None, None]
    deviation = np.array([kind.pixel_deviation for kind in kinds])[:, None, None]
    return np.clip(colour + crop[..., None] + deviation * relief[..., None], 0, 255) / 255


def _unit(layers: np.ndarray) -> np.ndarray:
    """Each layer of (n, height, width) with mean 0 and deviation 1."""
    centred = layers - layers.mean(axis=(1, 2), keepdims=True)
    return centred / centred.std(axis=(1, 2), keepdims=True)
