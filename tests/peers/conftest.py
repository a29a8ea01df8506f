"""Images for the small network."""

from typing import NamedTuple

import numpy as np
import pytest

from raycnn.data.shapes import generate


class Pictures(NamedTuple):
    """Images (n, 32, 32, 3) uint8 and their labels (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@pytest.fixture(scope="session", params=["generated", "real"])
def pictures(request: pytest.FixtureRequest) -> Pictures:
    if request.param == "generated":
        return Pictures(*generate(500, 0, 0), *generate(100, 0, 1))
    with np.load(request.getfixturevalue("reference")("cifar10_lossless.npz")) as file:
        return Pictures(
            file["train_images"][:500],
            file["train_labels"][:500],
            file["test_images"][:100],
            file["test_labels"][:100],
        )
