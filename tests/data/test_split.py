"""The train/validation split: a partition, stratified, reproducible, with a digest of its own."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycnn.data.split import stratified_split
from raycnn.errors import SpecError


@st.composite
def _labelled(draw):
    """Labels with at least two images of each class, in any order, and a number that can be held out."""
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=8))
    classes = draw(st.permutations(range(-2, len(sizes) - 2)))
    labels = np.repeat(classes, sizes)
    np.random.default_rng(draw(st.integers(0, 9))).shuffle(labels)
    return labels, draw(st.integers(len(sizes), len(labels) - len(sizes)))


@settings(deadline=None)
@given(_labelled(), st.integers(0, 2**40))
def test_a_split_is_a_partition_with_every_class_on_both_sides(case, seed):
    labels, count = case
    split = stratified_split(labels, count, seed)
    assert len(split.validation) == count
    assert np.array_equal(np.sort(np.concatenate([split.train, split.validation])), np.arange(len(labels)))
    for part in (split.train, split.validation):
        assert (np.diff(part) > 0).all()
        assert set(labels[part]) == set(labels)


@settings(deadline=None)
@given(_labelled(), st.integers(0, 99))
def test_every_class_has_its_share_rounded_up_or_down(case, seed):
    labels, count = case
    split = stratified_split(labels, count, seed)
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count / len(labels)
    if exact.min() < 1 or (sizes - exact).min() < 1:
        return  # the bound of one image on either side decides there
    held_out = np.array([(labels[split.validation] == name).sum() for name in classes])
    assert (np.abs(held_out - exact) < 1).all()


@pytest.mark.parametrize("validation", [5000, 0.1])
def test_cifar_is_split_into_45000_and_5000_with_500_of_each_class(validation):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    split = stratified_split(labels, validation, seed=0)
    assert np.bincount(labels[split.validation]).tolist() == [500] * 10
    assert np.bincount(labels[split.train]).tolist() == [4500] * 10


def test_the_same_seed_gives_the_same_split_and_another_seed_another_one():
    labels = np.arange(1000) % 7
    first, again, other = (stratified_split(labels, 100, seed) for seed in (3, 3, 4))
    assert first.digest == again.digest
    assert np.array_equal(first.validation, again.validation)
    assert first.digest != other.digest


def test_the_digest_is_a_sha256_over_both_index_arrays():
    split = stratified_split(np.array([0, 1, 0, 1, 0, 1]), 2, seed=1)
    content = b"".join(int(i).to_bytes(8, "little") for i in [*split.train, *split.validation])
    assert split.digest == hashlib.sha256(content).hexdigest()


def test_a_split_of_today_is_the_split_of_tomorrow():
    """Written down when this was made: recorded runs must find their split again."""
    assert stratified_split(np.arange(40) % 4, 8, seed=5).validation.tolist() == [4, 7, 8, 21, 29, 31, 34, 38]


def test_every_image_is_held_out_about_equally_often():
    labels = np.arange(60) % 3
    times = np.zeros(60)
    for seed in range(400):
        times[stratified_split(labels, 0.2, seed).validation] += 1
    assert times.mean() == 80
    assert np.abs(times - 80).max() < 5 * np.sqrt(400 * 0.2 * 0.8)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (9, r"^data\.validation: 9 is fewer than one image of each of 10 classes\. Set 10 or more\.$"),
        (0.01, r"^data\.validation: 0\.01 \(1 images\) is fewer than one image of each of 10 classes\. Set 10 or more"),
        (91, r"^data\.validation: 91 of 100 leaves fewer than one image of each .* Set 90 or fewer\.$"),
        (5000, r"^data\.validation: 5000 of 100 leaves"),
        (0.999, r"^data\.validation: 0\.999 \(100 images\) of 100 leaves"),
    ],
)
def test_a_split_that_starves_a_class_is_refused_with_the_mend(validation, message):
    with pytest.raises(SpecError, match=message):
        stratified_split(np.arange(100) % 10, validation, seed=0)


@pytest.mark.parametrize("validation", [10, 90])
def test_one_image_of_each_class_is_enough(validation):
    split = stratified_split(np.arange(100) % 10, validation, seed=0)
    assert len(split.validation) == validation


def test_a_class_with_a_single_image_is_named():
    with pytest.raises(SpecError, match=r"needs two training images of each class, and there is one of cat\. Add"):
        stratified_split(np.array([0, 0, 0, 1]), 2, seed=0, class_names=("dog", "cat"))
    with pytest.raises(SpecError, match=r"there is one of a, b, c, d, e, …\. Add"):
        stratified_split(np.arange(8), 2, seed=0, class_names=tuple("abcdefgh"))
