"""Corrupted images whose rows are not those of the test images are refused, though their labels fit."""

from pathlib import Path

import numpy as np
import pytest

from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.robustness.archives import CorruptionFile, open_corruptions
from raycnn.robustness.corruptions import SEVERITIES, corrupt
from raycnn.robustness.order import refuse_other_order
from raycnn.robustness.units import units
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring

N = 60
SPEC = DataSpec(name="shapes", train_images=100, test_images=N + 10)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.asarray(load(SPEC, None).open_test().images)


@pytest.fixture(scope="module")
def corrupted(clean) -> np.ndarray:
    """(5, N, 32, 32, 3)"""
    return np.stack([corrupt(clean[:N], "fog", severity, seed=0) for severity in SEVERITIES])


def saved(folder: Path, images: np.ndarray) -> CorruptionFile:
    np.save(folder / "fog.npy", images.reshape(-1, 32, 32, 3))
    return CorruptionFile("fog", folder / "fog.npy", N)


def test_files_in_the_authors_order_pass(tmp_path, clean, corrupted):
    refuse_other_order(saved(tmp_path, corrupted), clean)


def test_images_with_all_their_severities_together_are_refused_with_the_line_that_mends_it(tmp_path, clean, corrupted):
    file = saved(tmp_path, corrupted.swapaxes(0, 1))
    with pytest.raises(DataError, match="holds the 5 severities of each image together") as refused:
        refuse_other_order(file, clean)
    images = np.load(file.path)
    line = str(refused.value).partition("Save it as ")[2].rstrip(".")
    mended = eval(line, {"images": images})  # noqa: S307 what a user would type
    np.testing.assert_array_equal(mended.reshape(corrupted.shape), corrupted)
    refuse_other_order(saved(tmp_path, mended), clean)


@pytest.mark.parametrize("change", ["one row later", "shuffled", "of other images"])
def test_images_of_other_rows_are_refused(tmp_path, clean, corrupted, change):
    changed = {
        "one row later": np.roll(corrupted, 1, axis=1),
        "shuffled": corrupted[:, np.random.default_rng(0).permutation(N)],
        "of other images": np.random.default_rng(0).integers(0, 256, corrupted.shape, np.uint8),
    }[change]
    with pytest.raises(DataError, match="are not the first 60 test images at severity 1"):
        refuse_other_order(saved(tmp_path, changed), clean)


def test_plain_images_tell_nothing_and_pass(tmp_path, clean, corrupted):
    refuse_other_order(saved(tmp_path, np.full_like(corrupted, 7)), clean)


def test_what_is_scored_is_looked_at(tmp_path, corrupted):
    """Image by image beside labels of the usual order: before, this was scored, and the errors were those of chance."""
    data = load(SPEC, None)
    saved(tmp_path, corrupted.swapaxes(0, 1))
    np.save(tmp_path / "labels.npy", np.tile(data.open_test().labels[:N], 5))
    assert open_corruptions(tmp_path, np.asarray(data.open_test().labels)).n == N
    scoring = Scoring(score=["cifar10-c"], cifar10_c=tmp_path)
    as_cifar = SPEC.model_copy(update={"name": "cifar10"})
    with pytest.raises(DataError, match="severities of each image together"):
        units(scoring, as_cifar, tmp_path, data, 0)


def test_the_authors_files_pass(reference):
    with np.load(reference("cifar10_lossless.npz")) as file:
        images, labels = file["test_images"], file["test_labels"]
    for file in open_corruptions(reference("cifar-10-c-128"), labels).files:
        refuse_other_order(file, images)
