"""Frost: the picture seen through an iced pane.

The authors lay crops of five photographs over the pictures; `read_textures` takes theirs, or others, from a folder.
Without, the ice is procedural: five textures whose colours, deviations and share of coarse structure were fitted to
what the authors' output for 128 CIFAR-10 test images shows of the photographs. Errors on that frost are not those of
CIFAR-10-C's; who shows them has to say so (`PROCEDURAL`).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raycnn.data.pictures import SUFFIXES, is_picture, read_rgb
from raycnn.errors import DataError
from raycnn.robustness.blur import smooth
from raycnn.robustness.draws import Draws

PROCEDURAL = "procedural ice, not the authors' photographs: errors on frost cannot be compared with published ones"
_PICTURES = 5  # as in the authors' program, which names six and draws from five
_STEP = 5  # their pictures are scaled by 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Textures:
    """Photographs of ice. pictures: (height, width, 3) uint8 each, scaled. digest: sha256 over their pixels."""

    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    digest: str

    def require(self, height: int, width: int) -> None:
        """Raises DataError where a crop of that size cannot be taken of each picture."""
        for name, picture in zip(self.names, self.pictures, strict=True):
            if picture.shape[0] < height or picture.shape[1] < width:
                raise DataError(
                    f"{name}: scaled by 0.2 it has {picture.shape[1]} x {picture.shape[0]} pixels, the images have "
                    f"{width} x {height}. Take pictures of {_STEP * width} x {_STEP * height} and more, or none."
                )


def read_textures(folder: Path) -> Textures:
    """The first five pictures of a folder, by name; fewer where there are fewer.

    Those of the authors are frost1.png to frost5.jpg of https://github.com/hendrycks/robustness.
    Raises DataError where there is none, or one that is damaged or beyond Pillow's limit of pixels.
    """
    try:
        paths = sorted(filter(is_picture, folder.iterdir()))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Name a folder of pictures of ice.") from error
    if not paths:
        raise DataError(f"{folder}: no picture ({', '.join(sorted(SUFFIXES))}). Name a folder of pictures of ice.")
    pictures = tuple(_scaled(path) for path in paths[:_PICTURES])
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(picture.data)
    return Textures(tuple(path.name for path in paths[:_PICTURES]), pictures, digest.hexdigest())


def _scaled(path: Path) -> np.ndarray:
    """A fifth of the size, as cv2.resize(picture, (0, 0), fx=0.2, fy=0.2) does it: bilinear without antialiasing, whose
    samples then fall on every fifth pixel from the third on, so that nothing is left to interpolate."""
    picture = np.asarray(read_rgb(path))
    return np.ascontiguousarray(picture[_STEP // 2 :: _STEP, _STEP // 2 :: _STEP])


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


def frost(images: np.ndarray, severity: int, draws: Sequence[Draws], textures: Textures | None = None) -> np.ndarray:
    """Add ice to the dimmed picture. images: (n, height, width, 3) floats in [0, 1]; the result is not clipped.

    textures: without, the ice is procedural. Raises DataError for images larger than a texture.
    Weights are the CIFAR ones of Hendrycks & Dietterich 2019, arXiv:1903.12261.
    """
    image_weight, ice_weight = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    shape = images.shape[1:3]
    ice = _crops(textures, shape, draws) if textures else _ice(shape, draws)
    return image_weight * images + ice_weight * ice


def _crops(textures: Textures, shape: tuple[int, int], draws: Sequence[Draws]) -> np.ndarray:
    """For each image a place in one of the textures, (n, height, width, 3) in [0, 1]."""
    textures.require(*shape)
    ice = np.empty((len(draws), *shape, 3))
    for crop, random in zip(ice, draws, strict=True):
        picture = textures.pictures[int(random.integers(0, len(textures.pictures), ()))]
        # The authors' upper ends, which leave the last place out; where it is the only one, it is taken.
        ends = (max(1, picture.shape[axis] - shape[axis]) for axis in (0, 1))
        top, left = (int(random.integers(0, end, ())) for end in ends)
        crop[...] = picture[top : top + shape[0], left : left + shape[1]] / 255
    return ice


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
