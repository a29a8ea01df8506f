"""`shapes`: ten procedural classes, so that a first run needs no download.

Each picture shows one figure (disc, ring, …) on a textured ground, lit from above, with a shadow, small distractors
and sometimes a bar in front. Colour, contrast, place, size, tilt, proportions, texture and noise vary. The light and
the limited tilt give every picture an "up", without which predicting rotations would have nothing to learn. Half of
the figures of a class have its favourite colour, the others any.

Image i of a split depends on (seed, split, i) alone: a larger set begins with the images of a smaller one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SIDE_PX = 32
VERSION = 2  # part of the cache key: raise it whenever a picture changes
CLASS_NAMES = ("disc", "ring", "crescent", "square", "triangle", "star", "cross", "heart", "stripes", "checker")

# The colour of some figures of each class; the others have any. Real classes have such colours too, and without them
# SGD at a learning rate of 0.1 stayed at chance for the first five epochs, where a search wants to compare trials.
_TYPICAL_COLOURS = np.array(
    [
        (0.95, 0.55, 0.1),
        (0.85, 0.75, 0.3),
        (0.95, 0.9, 0.55),
        (0.2, 0.35, 0.85),
        (0.15, 0.6, 0.25),
        (0.95, 0.85, 0.1),
        (0.9, 0.9, 0.95),
        (0.85, 0.1, 0.2),
        (0.1, 0.6, 0.65),
        (0.55, 0.25, 0.65),
    ],
    np.float32,
)
_TYPICAL_SHARE = 0.5
_BLOCK = 250  # images drawn from one generator, always all of them; a multiple of the number of classes
_GRID = 6  # cells per side of the background's value noise


def generate(
    count: int, seed: int, split: int, advance: Callable[[int], None] = lambda done: None
) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` pictures (count, 32, 32, 3) uint8 and their labels (count,) int64.

    split: 0 train, 1 test: they share no picture. Of every ten consecutive labels each class has one.
    advance: told the number of finished pictures now and then.
    """
    images = np.empty((count, SIDE_PX, SIDE_PX, 3), np.uint8)
    labels = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        block_images, block_labels = _block(np.random.default_rng([seed, split, start // _BLOCK]))
        stop = min(start + _BLOCK, count)
        images[start:stop], labels[start:stop] = block_images[: stop - start], block_labels[: stop - start]
        advance(stop)
    return images, labels


def _block(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw _BLOCK pictures, painted from back to front."""
    classes = len(CLASS_NAMES)
    labels = np.argsort(rng.random((_BLOCK // classes, classes)), axis=1).ravel()
    ground = (rng.uniform(0.2, 0.8, (_BLOCK, 1)) + rng.uniform(-0.15, 0.15, (_BLOCK, 3))).astype(np.float32)
    pose = _random_pose(rng)

    image = _ground(rng, ground)
    for _ in range(3):
        image = _distractor(rng, image, ground)
    shadow = _coverage(labels, pose._replace(x=pose.x + 1.5, y=pose.y + 2))
    image = image * (1 - rng.uniform(0.15, 0.45, (_BLOCK, 1, 1, 1)).astype(np.float32) * shadow[..., None])
    image = _over(image, _figure_colour(rng, labels, pose, ground), _coverage(labels, pose))
    image = _bar(rng, image)

    light = rng.uniform(0.05, 0.3, (_BLOCK, 1, 1)).astype(np.float32) * -_ROWS / (SIDE_PX / 2)
    noise = _bell(rng, (_BLOCK, SIDE_PX, SIDE_PX, 3)) * rng.uniform(0, 0.05, (_BLOCK, 1, 1, 1)).astype(np.float32)
    image = image * (1 + light)[..., None] + noise
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), labels


# Pixel centres, measured from the middle of the picture; rows grow downwards.
_CENTRES = np.arange(SIDE_PX, dtype=np.float32) - np.float32(SIDE_PX / 2 - 0.5)
_ROWS, _COLUMNS = _CENTRES[None, :, None], _CENTRES[None, None, :]


class _Pose(NamedTuple):
    """Where and how a figure lies: everything (n, 1, 1) float32, lengths in pixels."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    cosine: np.ndarray  # of the tilt
    sine: np.ndarray
    stretch: np.ndarray  # of the width
    square_patch: np.ndarray  # stripes and checker: 1 on a square patch, 0 on a round one
    period: np.ndarray  # of stripes and checker


def _random_pose(rng: np.random.Generator) -> _Pose:
    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (_BLOCK, 1, 1))

    radius, tilt = between(6.3, 12), between(-0.6, 0.6)
    room = 15.5 - radius  # a figure may touch the border, hardly leave it
    values = (
        between(-1, 1) * room,
        between(-1, 1) * room,
        radius,
        np.cos(tilt),
        np.sin(tilt),
        between(0.85, 1.18),
        between(0, 1) < 0.5,
        between(0.55, 0.85) * radius,
    )
    return _Pose(*(value.astype(np.float32) for value in values))


def _coverage(labels: np.ndarray, pose: _Pose) -> np.ndarray:
    """The share of each pixel (n, 32, 32) that the figures cover, from their signed distances in pixels."""
    distance = np.empty((len(labels), SIDE_PX, SIDE_PX), np.float32)
    for label, figure in enumerate(_FIGURES):
        chosen = labels == label
        own = _Pose(*(value[chosen] for value in pose))
        distance[chosen] = figure(*_local(own), own)
    return _inside(distance)


def _local(pose: _Pose) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates in the figure's own frame: u to its right, v down."""
    x, y = _COLUMNS - pose.x, _ROWS - pose.y
    return (pose.cosine * x + pose.sine * y) / pose.stretch, pose.cosine * y - pose.sine * x


def _inside(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel at this signed distance (negative inside) from an edge."""
    return np.clip(0.5 - distance, 0, 1)


def _disc(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    return np.sqrt(u * u + v * v) - 0.95 * pose.radius


def _ring(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - 0.76 * pose.radius) - 0.2 * pose.radius


def _crescent(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    aside = u - 0.5 * pose.radius
    return np.maximum(_disc(u, v, pose), 0.78 * pose.radius - np.sqrt(aside * aside + v * v))


def _square(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8 * pose.radius


def _triangle(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    return _half_planes(u, v + 0.1 * pose.radius, 3).max(0) - 0.56 * pose.radius


def _star(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    """Inside a five-pointed star is who lies within at least four of its five lines."""
    return np.partition(_half_planes(u, v, 5), 3, axis=0)[3] - 0.37 * pose.radius


def _cross(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    long, short = 0.95 * pose.radius, 0.3 * pose.radius
    return np.minimum(np.maximum(np.abs(u) - long, np.abs(v) - short), np.maximum(np.abs(u) - short, np.abs(v) - long))


def _heart(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    """A square on its corner and two discs on its upper sides."""
    half = 0.55 * pose.radius
    v = v - 0.1 * pose.radius
    diamond = (np.abs(u) + np.abs(v)) / np.float32(np.sqrt(2)) - half
    lobe = half / np.float32(np.sqrt(2))
    return np.minimum(diamond, np.sqrt((np.abs(u) - lobe) ** 2 + (v + lobe) ** 2) - half)


def _patch(u: np.ndarray, v: np.ndarray, pose: _Pose) -> np.ndarray:
    return np.where(pose.square_patch > 0, _square(u, v, pose), _disc(u, v, pose))


_FIGURES = (_disc, _ring, _crescent, _square, _triangle, _star, _cross, _heart, _patch, _patch)


def _half_planes(u: np.ndarray, v: np.ndarray, sides: int) -> np.ndarray:
    """(sides, n, 32, 32): how far a point lies out along each normal of a regular polygon that stands on a side."""
    angles = 2 * np.pi * np.arange(sides) / sides
    normals = np.stack([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
    return np.stack([a * u + b * v for a, b in normals])


def _figure_colour(rng: np.random.Generator, labels: np.ndarray, pose: _Pose, ground: np.ndarray) -> np.ndarray:
    """(n, 32, 32, 3): a plain colour, shaded a little; two colours for stripes and checker."""
    first = _contrasting(rng, ground, 0.2, 0.7)
    typical = _TYPICAL_COLOURS[labels] + rng.uniform(-0.15, 0.15, first.shape).astype(np.float32)
    is_typical = rng.random((len(labels), 1)) < _TYPICAL_SHARE
    first = np.where(is_typical, np.clip(typical, 0, 1), first)
    second = _contrasting(rng, first, 0.25, 0.7)
    u, v = _local(pose)
    across, along = _wave(v, pose.period), _wave(u, pose.period)
    mixed = np.zeros((len(labels), SIDE_PX, SIDE_PX), np.float32)
    stripes, checker = (labels == CLASS_NAMES.index(name) for name in ("stripes", "checker"))
    mixed[stripes] = across[stripes]
    mixed[checker] = (across * (1 - along) + along * (1 - across))[checker]
    shade = 1 - rng.uniform(0, 0.25, (len(labels), 1, 1)).astype(np.float32) * v / pose.radius
    return _over(_spread(first), _spread(second), mixed) * shade[..., None]


def _contrasting(rng: np.random.Generator, colour: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours (n, 3) in [0, 1] of which one channel differs from `colour` by low..high (at most 0.5 at mid-grey)."""
    direction = rng.uniform(-1, 1, colour.shape)
    direction /= np.abs(direction).max(1, keepdims=True)
    step = (direction * rng.uniform(low, high, (len(colour), 1))).astype(np.float32)
    there = colour + step
    return np.clip(np.where((there < 0) | (there > 1), colour - step, there), 0, 1)


def _wave(position: np.ndarray, period: np.ndarray) -> np.ndarray:
    """1 on the bright half of each period, 0 on the dark one, blended at the edges."""
    phase = position / period
    return _inside((np.abs(phase - np.floor(phase) - 0.5) - 0.25) * period)


def _ground(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """(n, 32, 32, 3): value noise between two colours, under a soft grating."""
    n = len(colour)
    other = _contrasting(rng, colour, 0.03, 0.25)
    image = _over(_spread(colour), _spread(other), _value_noise(rng, n))
    turn = rng.uniform(0, np.pi, (n, 1, 1))
    along = np.cos(turn).astype(np.float32) * _COLUMNS + np.sin(turn).astype(np.float32) * _ROWS
    grating = _wave(along, rng.uniform(3, 9, (n, 1, 1)).astype(np.float32)) - 0.5
    # Squared, so that most grounds are nearly smooth and some as striped as a figure.
    return image + (grating * rng.uniform(0, 0.6, (n, 1, 1)).astype(np.float32) ** 4)[..., None]


def _value_noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 32, 32) in [0, 1]: random values on a coarse grid, smoothly joined."""
    grid = rng.random((n, _GRID + 1, _GRID + 1), dtype=np.float32)
    place = (np.arange(SIDE_PX, dtype=np.float32) + 0.5) * (_GRID / SIDE_PX)
    cell = place.astype(np.int64)
    ease = place - cell
    ease = ease * ease * (3 - 2 * ease)
    rows = grid[:, cell] * (1 - ease)[:, None] + grid[:, cell + 1] * ease[:, None]
    return rows[:, :, cell] * (1 - ease) + rows[:, :, cell + 1] * ease


def _distractor(rng: np.random.Generator, image: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Paint one small round, hollow or square blot in each picture."""
    n = len(image)
    x, y = rng.uniform(-16, 16, (2, n, 1, 1)).astype(np.float32)
    radius = rng.uniform(1.2, 3.2, (n, 1, 1)).astype(np.float32)
    kind = rng.integers(0, 3, (n, 1, 1))
    across, down = np.abs(_COLUMNS - x), np.abs(_ROWS - y)
    middle = np.sqrt(across * across + down * down)
    distance = np.choose(kind, [middle - radius, np.abs(middle - radius) - 0.6, np.maximum(across, down) - radius])
    return _over(image, _spread(_contrasting(rng, ground, 0.15, 0.6)), _inside(distance))


def _bar(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Lay a thin bar over about half of the pictures."""
    n = len(image)
    turn = rng.uniform(0, np.pi, (n, 1, 1))
    across = np.cos(turn).astype(np.float32) * _COLUMNS + np.sin(turn).astype(np.float32) * _ROWS
    offset, half = rng.uniform(-11, 11, (n, 1, 1)), rng.uniform(-1.3, 1.3, (n, 1, 1))
    distance = np.abs(across - offset.astype(np.float32)) - half.astype(np.float32)
    colour = rng.uniform(0, 1, (n, 3)).astype(np.float32)
    return _over(image, _spread(colour), _inside(distance) * (half > 0))


def _over(below: np.ndarray, above: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    return below + (above - below) * coverage[..., None]


def _spread(colour: np.ndarray) -> np.ndarray:
    return colour[:, None, None, :]


def _bell(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bell-shaped noise of standard deviation 1: three uniforms, as cheap as it gets."""
    return (rng.random((3, *shape), dtype=np.float32).sum(0) - np.float32(1.5)) * 2
