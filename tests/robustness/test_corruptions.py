"""Corruptions against the authors' outputs: with their random numbers pixel by pixel, with ours in distribution."""

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import some_pictures, spectrum

from raycnn.errors import SpecError
from raycnn.robustness.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    TEST_CORRUPTIONS,
    VALIDATION_CORRUPTIONS,
    corrupt,
    corrupt_with,
    validation_corruptions,
)

WITHOUT_CHANCE = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)


class _Replayed:
    """The generator of the authors' program, with the names of today's."""

    def __init__(self, legacy: Any):
        self._legacy = legacy
        self.standard_normal = legacy.standard_normal
        self.uniform = legacy.uniform
        self.random = legacy.random_sample
        self.poisson = legacy.poisson
        self.integers = legacy.randint


def _replay(name: str, count: int) -> Callable[[], list[Any]]:
    """A function that gives, severity after severity, the generators that made the reference outputs."""
    legacy = np.random.RandomState(2024 + CORRUPTIONS.index(name))

    def draws() -> list[Any]:
        if name == "impulse_noise":
            return [np.random.default_rng(legacy.randint(2**31 - 1)) for _ in range(count)]
        return [_Replayed(legacy)] * count

    return draws


@pytest.fixture(scope="session")
def clean(reference) -> np.ndarray:
    with np.load(reference("cifar10_lossless.npz")) as file:
        return file["test_images"][:128]


def _outputs_of_the_authors(reference, name: str) -> np.ndarray:
    return np.load(reference("cifar-10-c-128") / f"{name}.npy").reshape(5, 128, 32, 32, 3)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "frost"])
def test_with_the_authors_random_numbers_the_images_are_theirs(reference, clean, name):
    draws = _replay(name, len(clean))
    for severity, wanted in zip(SEVERITIES, _outputs_of_the_authors(reference, name), strict=True):
        got = corrupt_with(draws(), clean, name, severity)
        difference = np.abs(got.astype(int) - wanted)
        assert difference.max() <= 1, f"severity {severity}"
        assert difference.mean() < 0.05, f"severity {severity}"


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in (*WITHOUT_CHANCE, "frost")])
def test_with_our_random_numbers_changes_have_the_same_mean_and_deviation(reference, clean, name):
    for severity, theirs in zip(SEVERITIES, _outputs_of_the_authors(reference, name), strict=True):
        ours = corrupt(clean, name, severity, seed=7)
        for statistic in (np.mean, np.std):
            a, b = (statistic(images - clean.astype(float), axis=(1, 2, 3)) for images in (ours, theirs))
            # Each image has its own random numbers, so the 128 paired gaps are independent.
            standard_error = (a - b).std() / np.sqrt(len(clean))
            assert abs((a - b).mean()) < 4 * standard_error + 0.01, f"{statistic.__name__} at severity {severity}"


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in (*WITHOUT_CHANCE, "frost")])
def test_with_our_random_numbers_changes_have_the_samespectrum(reference, clean, name):
    for severity, theirs in zip(SEVERITIES, _outputs_of_the_authors(reference, name), strict=True):
        a, b = (
            np.log(spectrum(images - clean.astype(float)) + 1)
            for images in (corrupt(clean, name, severity, seed=7), theirs)
        )
        standard_error = (a - b).std(axis=0, ddof=1) / np.sqrt(len(clean))
        assert (np.abs((a - b).mean(axis=0)) < 4.5 * standard_error + 0.02).all(), f"severity {severity}"


def test_procedural_frost_is_about_as_bright_and_as_rough_as_photographed_frost(reference, clean):
    for severity, theirs in zip(SEVERITIES, _outputs_of_the_authors(reference, "frost"), strict=True):
        a, b = (images - clean.astype(float) for images in (corrupt(clean, "frost", severity, seed=0), theirs))
        assert a.mean() == pytest.approx(b.mean(), abs=6)
        assert a.std() == pytest.approx(b.std(), rel=0.1)
        assert a.std(axis=(1, 2)).mean() == pytest.approx(b.std(axis=(1, 2)).mean(), rel=0.1)


@given(cut=st.integers(0, 5), seed=st.integers(0, 2**64 - 1), name=st.sampled_from(CORRUPTIONS))
@settings(max_examples=40, deadline=None)
def test_chunks_come_out_as_with_the_whole(cut, seed, name):
    pictures = some_pictures(5)
    whole = corrupt(pictures, name, 3, seed)
    parts = [corrupt(pictures[:cut], name, 3, seed), corrupt(pictures[cut:], name, 3, seed, first_index=cut)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in WITHOUT_CHANCE])
def test_images_and_seeds_have_random_numbers_of_their_own(name):
    twins = np.repeat(some_pictures(1), 2, axis=0)
    first, second = corrupt(twins, name, 5, seed=1)
    assert (first != second).any()
    assert (corrupt(twins, name, 5, seed=2) != (first, second)).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(8, 8), (40, 65)])
def test_other_sizes_work_and_the_input_stays_as_it_was(name, size):
    pictures = some_pictures(2, *size)
    pictures.flags.writeable = False
    before = pictures.copy()
    for severity in SEVERITIES:
        got = corrupt(pictures, name, severity, seed=0)
        assert got.shape == pictures.shape
        assert got.dtype == np.uint8
    np.testing.assert_array_equal(pictures, before)
    assert corrupt(pictures[:0], name, 1, seed=0).shape == (0, *size, 3)


# The authors' severities of these three are of different kinds, not of one kind and rising strength.
@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"elastic_transform", "glass_blur", "saturate"}))
def test_the_highest_severity_changes_most(name):
    pictures = some_pictures(8)
    mild, hard = (np.abs(corrupt(pictures, name, s, seed=0) - pictures.astype(float)).mean() for s in (1, 5))
    assert hard > mild


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3), st.sampled_from(SEVERITIES))
def test_brightness_and_saturation_follow_hsv(pixel, severity):
    picture = np.array(pixel, np.uint8).reshape(1, 1, 1, 3)
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
    brighter = colorsys.hsv_to_rgb(hue, saturation, min(1, value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]))
    factor, shift = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    richer = colorsys.hsv_to_rgb(hue, min(1, saturation * factor + shift), value)
    for name, wanted in (("brightness", brighter), ("saturate", richer)):
        got = corrupt(picture, name, severity, seed=0)[0, 0, 0]
        assert np.abs(got - np.array(wanted) * 255).max() <= 1 + 1e-6  # cut off, not rounded


def test_validation_corruptions_come_in_order():
    pictures = some_pictures(3)
    made = validation_corruptions(pictures, seed=4)
    assert made.shape == (4, 5, 3, 32, 32, 3)
    for one, name in zip(made, VALIDATION_CORRUPTIONS, strict=True):
        np.testing.assert_array_equal(one[4], corrupt(pictures, name, 5, seed=4))


def test_there_are_fifteen_to_test_with_and_four_others_to_search_with():
    assert len(TEST_CORRUPTIONS) == 15
    assert VALIDATION_CORRUPTIONS == ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    assert not set(TEST_CORRUPTIONS) & set(VALIDATION_CORRUPTIONS)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(SpecError, match=r"corruption 'mist' does not exist\. Take one of gaussian_noise, shot_noise, "):
        corrupt(some_pictures(1), "mist", 1, seed=0)
    for severity in (0, 6, 1.5):
        with pytest.raises(SpecError, match="fog: severity goes from 1 to 5"):
            corrupt(some_pictures(1), "fog", severity, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \(1, 32, 32, 3\) float64"):
        corrupt(some_pictures(1).astype(float), "fog", 1, seed=0)
