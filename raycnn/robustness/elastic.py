"""Elastic transform: a random affine map of the picture, then a random smooth displacement of its pixels."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from raycnn.robustness.draws import Draws


def elastic_transform(images: np.ndarray, severity: int, draws: Sequence[Draws]) -> np.ndarray:
    """Shift three points by up to `jitter`, map the picture along, then move each pixel by smoothed noise.

    images: (n, height, width, 3) floats in [0, 1]. Strengths are the CIFAR ones of Hendrycks & Dietterich 2019,
    arXiv:1903.12261, given there as shares of the image's side. Severity 1 has no displacement and the widest jitter:
    it changes the picture more than severity 5 does.
    """
    displacement, sigma, jitter = (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    height, width = images.shape[1:3]
    side = min(height, width)
    centre = np.array([height // 2, width // 2], dtype=float)
    arm = side // 3
    points = np.array([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm])
    # (x, y, 1) of the points on the new picture -> (x, y) on the old one.
    out = np.empty_like(images)
    y, x = np.mgrid[:height, :width].astype(float)
    for image, random in enumerate(draws):
        moved = points + random.uniform(-jitter * side, jitter * side, points.shape)
        back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)
        old = np.stack([x, y, np.ones_like(x)], axis=-1) @ back
        affine = _sample(images[image], old[..., 1], old[..., 0], mode="mirror")
        dx, dy = (
            ndimage.gaussian_filter(random.uniform(-1, 1, (height, width)), sigma * side, mode="reflect", truncate=3)
            * displacement
            * side
            for _ in range(2)
        )
        out[image] = _sample(affine, y + dy, x + dx, mode="reflect")
    return out


def _sample(image: np.ndarray, y: np.ndarray, x: np.ndarray, mode: str) -> np.ndarray:
    """Linear interpolation of (height, width, channels) at the places y, x of the same shape as its plane."""
    return np.stack(
        [ndimage.map_coordinates(channel, (y, x), order=1, mode=mode) for channel in np.moveaxis(image, -1, 0)], axis=-1
    )
