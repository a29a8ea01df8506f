"""Intervals and tests against textbook formulas, and against worlds of which the truth is known."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raycnn.robustness.statistics import Comparison, compare, compare_ratio, contrast, corrected, estimate


def _binary(seed: int, seeds: int, images: int, errors: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((seeds, images)) < errors).astype(np.float32)


def test_of_one_training_the_interval_is_that_of_a_share():
    wrong = _binary(0, 1, 2000, 0.1)
    found = estimate(wrong)
    p = float(wrong.mean())
    half = 1.96 * np.sqrt(p * (1 - p) / 2000)
    assert (found.value, found.deviation, found.seeds, found.images) == (pytest.approx(p), None, 1, 2000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert found.low == pytest.approx(p - half, abs=0.1 * half)


def test_where_images_are_all_alike_the_interval_is_students_over_seeds():
    values = np.array([0.1, 0.13, 0.14])
    found = estimate(np.repeat(values[:, None], 50, axis=1))
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert found.deviation == pytest.approx(values.std(ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.01)


def test_where_images_are_all_alike_a_comparison_is_welchs_test():
    ours, theirs = np.array([0.1, 0.11, 0.13]), np.array([0.14, 0.2, 0.22, 0.16])
    found = compare(np.repeat(ours[:, None], 20, axis=1), np.repeat(theirs[:, None], 20, axis=1))
    wanted: Any = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = wanted.confidence_interval(0.95)
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.01)
    assert found.p == pytest.approx(wanted.pvalue, abs=0.002)
    assert found.seeds == (3, 4)


def test_of_single_trainings_a_comparison_is_the_paired_test_and_shows_nothing_by_itself():
    wrong = _binary(1, 2, 3000, 0.2)
    ours, theirs = wrong[:1] * (_binary(2, 1, 3000, 0.8)), wrong[:1]
    found = compare(ours, theirs)
    paired: Any = stats.ttest_rel(ours[0], theirs[0])
    assert found.p == pytest.approx(paired.pvalue, abs=0.001)
    unpaired = np.sqrt(ours.var() / 3000 + theirs.var() / 3000)
    assert found.high - found.low < 2 * 1.96 * unpaired * 0.8  # pairing has gained something
    assert found.holm < 0.05
    assert not found.real


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_and_tests_keep_their_level_in_a_world_with_seeds_and_images(seeds):
    random = np.random.default_rng(seeds)
    truth, seed_deviation, images, worlds = 1.0, 0.06, 300, 300
    covered = shown = 0
    for _ in range(worlds):
        difficulty = random.normal(size=images)

        def model(difficulty=difficulty) -> np.ndarray:
            return (
                truth
                + seed_deviation * random.normal(size=(seeds, 1))
                + difficulty
                + random.normal(size=(seeds, images))
            )

        ours, theirs = model(), model()
        found = estimate(ours)
        covered += found.low <= truth <= found.high
        shown += compare(ours, theirs).p < 0.05
    assert 0.91 <= covered / worlds <= 0.995  # 300 worlds, and few seeds are on the safe side
    assert shown / worlds <= 0.09


def test_a_difference_within_images_that_all_models_share_is_seen():
    random = np.random.default_rng(0)
    difficulty = random.normal(scale=3, size=1000)
    theirs = difficulty + 0.1 * random.normal(size=(3, 1000))
    found = compare(theirs - 0.05, theirs[::-1])
    assert found.real
    assert found.difference == pytest.approx(-0.05)
    assert (found.low, found.high) == pytest.approx((-0.05, -0.05), abs=0.02)


@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_comparison_the_other_way_round_is_its_mirror_image(shift, seed):
    a, b = _binary(seed, 3, 200, 0.3), _binary(seed + 1, 3, 200, 0.4) + shift
    there, back = compare(a, b), compare(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.05 * (there.high - there.low))


def test_a_model_is_no_different_from_itself():
    wrong = _binary(3, 3, 400, 0.2)
    found = compare(wrong, wrong)
    assert found.difference == pytest.approx(0, abs=1e-12)
    assert found.p > 0.9


def test_a_ratio_is_1_where_models_are_alike_and_has_an_interval_about_its_value():
    a = np.stack([_binary(4, 3, 5000, 0.2), _binary(5, 3, 5000, 0.4)], axis=-1)
    b = np.stack([_binary(6, 3, 5000, 0.4), _binary(7, 3, 5000, 0.8)], axis=-1)
    ratio = lambda ours, theirs: (ours / theirs).mean(axis=-1)  # noqa: E731
    assert compare_ratio(a, a, ratio).difference == pytest.approx(1, abs=1e-3)
    found = compare_ratio(a, b, ratio)
    assert found.difference == pytest.approx(0.5, abs=0.02)
    assert found.low < 0.5 < found.high
    assert found.p < 0.01


def test_holms_correction_is_that_of_a_case_worked_by_hand():
    blank = Comparison(0.0, 0.0, 0.0, 1.0, 1.0, (3, 3), 10)
    ps = [0.01, 0.04, 0.03, 0.005]
    found = corrected([dataclasses.replace(blank, p=p) for p in ps])
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04, which may not be below the one before.
    assert [one.holm for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [one.real for one in found] == [True, False, False, True]


def test_other_images_cannot_be_compared():
    with pytest.raises(ValueError, match="on the same images, got 10 and 11"):
        compare(np.zeros((2, 10)), np.zeros((2, 11)))


def test_the_same_numbers_come_of_the_same_outcomes():
    wrong = _binary(8, 2, 300, 0.2)
    assert estimate(wrong) == estimate(wrong)


def test_a_contrast_of_two_models_is_their_comparison():
    a, b = _binary(10, 3, 400, 0.3), _binary(11, 3, 400, 0.4)
    found, wanted = contrast([a, b], [1, -1]), compare(a, b)
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (wanted.difference, wanted.low, wanted.high, wanted.p)
    )


def test_effects_of_a_factorial_are_those_that_were_put_in():
    random = np.random.default_rng(0)
    difficulty = random.normal(size=2000)
    cells = {
        (a, b): difficulty - 0.3 * a - 0.1 * b + 0.2 * a * b + 0.02 * random.normal(size=(3, 2000))
        for a in (0, 1)
        for b in (0, 1)
    }
    effects = {
        "a": [(2 * a - 1) / 2 for a, _ in cells],
        "b": [(2 * b - 1) / 2 for _, b in cells],
        "a and b": [(2 * a - 1) * (2 * b - 1) / 2 for a, b in cells],
    }
    found = {name: contrast(list(cells.values()), weights) for name, weights in effects.items()}
    # A main effect is the mean over the other factor; an interaction, half the difference of the effects.
    assert found["a"].difference == pytest.approx(-0.3 + 0.1, abs=0.01)
    assert found["b"].difference == pytest.approx(-0.1 + 0.1, abs=0.01)
    assert found["a and b"].difference == pytest.approx(0.1, abs=0.01)
    assert [found[name].real for name in effects] == [True, False, True]


def _rows(*wrong: range, images: int) -> np.ndarray:
    """A training for each range, which errs on the images of it."""
    return np.array([[image in of_seed for image in range(images)] for of_seed in wrong], dtype=np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs", "images"),
    [
        # Each seed is right on one image, each on another one; the others are right on none.
        (1 - _rows(range(1), range(1, 2), range(2, 3), images=1000), np.ones((3, 1000)), 1000),
        (_rows(range(10), range(5, 15), images=40), _rows(range(20, 31), range(25, 36), images=40), 40),
    ],
    ids=["999 of 1,000 against all", "10 of 40 against 11"],
)
def test_seeds_that_happen_to_agree_do_not_make_chance_of_the_images_a_difference(ours, theirs, images):
    found = compare(ours, theirs, share=True)
    assert not found.differs
    assert found.low < 0 < found.high
    assert found.high - found.low > 1 / images


def test_all_or_nothing_wrong_has_an_interval_within_0_and_1():
    none = estimate(np.zeros((3, 1000)), share=True)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1.96**2 / (1000 + 1.96**2), rel=0.01)  # Wilson's, of 0 in 1,000
    every = estimate(np.ones((1, 1000)), share=True)
    assert (every.low, every.high) == (pytest.approx(1 - none.high, rel=1e-6), 1)
    both = compare(np.ones((3, 1000)), np.ones((3, 1000)), share=True)
    assert both.p == pytest.approx(1)
    assert both.low == pytest.approx(-1.96 / 1000, rel=0.01)  # as if one image more told them apart


def test_an_interval_of_few_images_and_seeds_far_apart_stays_within_0_and_1():
    found = estimate(_rows(range(9), range(1), images=10), share=True)
    assert (found.low, found.high) == (0, 1)


def test_two_seeds_near_saturation_seldom_show_what_is_not_there():
    random = np.random.default_rng(0)
    families = 200
    shown = 0
    for _ in range(families):
        wrong = (random.random((4, 2, 1000)) < 0.998).astype(np.float32)
        pairs = [compare(wrong[a], wrong[b], share=True) for a in range(4) for b in range(a)]
        shown += any(one.real for one in corrected(pairs))
    assert shown / families <= 0.055  # 0.13 to 0.15 where all that seeds might share was taken from the images' part
