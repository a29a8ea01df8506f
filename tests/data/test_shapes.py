"""The procedural pictures: reproducible, balanced, and told apart by their figures alone."""

import numpy as np
import pytest

from raycnn.data import shapes
from raycnn.data.sources import load
from raycnn.spec.data import DataSpec


@pytest.fixture(scope="module")
def pictures():
    return shapes.generate(1000, seed=0, split=0)


def test_the_same_seed_draws_the_same_pictures(pictures):
    images, labels = shapes.generate(1000, seed=0, split=0)
    assert np.array_equal(images, pictures[0])
    assert np.array_equal(labels, pictures[1])


@pytest.mark.parametrize("count", [1, 249, 250, 251, 730])
def test_a_larger_set_begins_with_the_pictures_of_a_smaller_one(pictures, count):
    images, labels = shapes.generate(count, seed=0, split=0)
    assert images.shape == (count, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, pictures[0][:count])
    assert np.array_equal(labels, pictures[1][:count])


def test_no_picture_occurs_twice_over_seeds_and_splits(pictures):
    sets = [pictures[0], shapes.generate(500, 0, 1)[0], shapes.generate(500, 1, 0)[0], shapes.generate(500, 1, 1)[0]]
    assert len({image.tobytes() for images in sets for image in images}) == 2500


def test_every_ten_pictures_hold_every_class_in_no_fixed_order(pictures):
    tens = pictures[1].reshape(-1, 10)
    assert np.array_equal(np.sort(tens, axis=1), np.tile(np.arange(10), (100, 1)))
    assert len(np.unique(tens, axis=0)) == 100


def test_pictures_use_the_whole_range_of_values(pictures):
    images = pictures[0] / 255
    assert 0.4 < images.mean() < 0.6
    assert 0.18 < images.std() < 0.3
    assert (images.std(axis=(1, 2, 3)) > 0.02).all()  # none is blank


def test_favourite_colours_help_but_do_not_suffice(pictures):
    """Half of the figures have any colour, and of ten guesses there nine are wrong: colour alone errs on 0.45 at least.

    The classifier is a ridge regression on each picture's histogram of 64 colours.
    """
    images, labels = pictures
    bins = (images // 64).astype(int) @ [16, 4, 1]
    shares = np.stack([np.bincount(picture.ravel(), minlength=64) for picture in bins]) / 1024
    features = np.hstack([np.sqrt(shares), np.ones((len(images), 1))])
    seen, unseen = slice(0, 600), slice(600, 1000)
    gram = features[seen].T @ features[seen] + 0.1 * np.eye(65)
    weights = np.linalg.solve(gram, features[seen].T @ np.eye(10)[labels[seen]])
    assert 0.45 < ((features[unseen] @ weights).argmax(1) != labels[unseen]).mean() < 0.8


def test_pictures_have_an_up(pictures):
    """Light falls from above: without that, predicting rotations would teach nothing."""
    images = pictures[0].astype(float).mean((2, 3))
    assert (images[:, :8].mean(1) > images[:, -8:].mean(1)).mean() > 0.7


def test_figures_cover_what_their_geometry_says():
    """Areas of the upright figures of radius 12, in square pixels, against plane geometry."""
    r = 12.0
    pose = shapes._Pose(*(np.full((10, 1, 1), value, np.float32) for value in (0, 0, r, 1, 0, 1, 0, 8)))
    areas = shapes._coverage(np.arange(10), pose).sum((1, 2))
    expected = {
        "disc": np.pi * (0.95 * r) ** 2,
        "ring": np.pi * r**2 * (0.96**2 - 0.56**2),
        "square": (1.6 * r) ** 2,
        "triangle": 3 * np.sqrt(3) * (0.56 * r) ** 2,
        "star": 5 * (0.37 * r) ** 2 * np.tan(np.pi / 5) * (1 + np.tan(np.pi / 5) * np.tan(2 * np.pi / 5)),
        "cross": (2 * 1.9 * 0.6 - 0.6**2) * r**2,
        "heart": (2 * 0.55 * r) ** 2 + np.pi * (0.55 * r) ** 2,
        "stripes": np.pi * (0.95 * r) ** 2,
        "checker": np.pi * (0.95 * r) ** 2,
    }
    for name, area in expected.items():
        assert areas[shapes.CLASS_NAMES.index(name)] == pytest.approx(area, rel=0.02), name


def test_the_spec_decides_size_and_seed(tmp_path):
    spec = DataSpec(name="shapes", train_images=30, test_images=20, seed=7)
    data = load(spec, cache=tmp_path)
    assert np.array_equal(data.train.images, shapes.generate(30, 7, 0)[0])
    assert np.array_equal(data.open_test().images, shapes.generate(20, 7, 1)[0])
    assert data.class_names == shapes.CLASS_NAMES
    assert load(spec.model_copy(update={"seed": 8}), cache=tmp_path).digest != data.digest
