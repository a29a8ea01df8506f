"""Summary numbers against hand-worked cases and against SciPy's own test."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from raycnn.reporting.results import Score
from raycnn.reporting.scores import corruption_measure, difference, measures, models, spread
from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.robustness.metrics import MFP_PERTURBATIONS

errors = st.lists(st.floats(0.01, 0.9), min_size=2, max_size=5)


def score(name, severity, value, of="cifar-10-c", metric="error", model="baseline", seed=0, n=100) -> Score:
    return Score(model, seed, of, name, severity, metric, n, None, value)


def grid(names, of="cifar-10-c", **where) -> list[Score]:
    """Corruption i at severity s has the error i / 100 + s / 1000."""
    return [score(name, s, i / 100 + s / 1000, of, **where) for i, name in enumerate(names) for s in range(1, 6)]


def test_a_spread_is_mean_and_sample_deviation():
    found = spread([0.1, 0.2, 0.6])
    assert (found.mean, found.deviation, found.n) == (pytest.approx(0.3), pytest.approx(0.264575131), 3)
    assert spread([0.1]).deviation is None


@given(ours=errors, theirs=errors)
def test_the_interval_is_that_of_welchs_test(ours, theirs):
    assume(min(np.std(ours), np.std(theirs)) > 1e-6)  # SciPy warns of values that are nearly alike
    found = difference(ours, theirs)
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.shown == (expected.low > 0 or expected.high < 0)


@pytest.mark.parametrize(("ours", "theirs"), [([0.1], [0.2, 0.3]), ([0.1, 0.1], [0.2, 0.2])])
def test_without_a_spread_nothing_is_shown(ours, theirs):
    assert difference(ours, theirs).interval is None
    assert not difference(ours, theirs).shown


def test_mce15_is_the_mean_over_severities_and_the_15_test_corruptions():
    found = measures(grid(TEST_CORRUPTIONS))
    assert [measure.key for measure in found] == ["test/mce15"]
    assert found[0].values == {"baseline": (pytest.approx(0.07 + 0.003),)}


def test_19_corruptions_give_both_means_and_never_mix_them():
    found = {measure.key: measure.values["baseline"][0] for measure in measures(grid(CORRUPTIONS))}
    assert found == {"test/mce15": pytest.approx(0.073), "test/mce19": pytest.approx(0.093)}


@pytest.mark.parametrize("lacking", ["a corruption", "a severity"])
def test_an_incomplete_set_of_corruptions_is_called_what_it_is(lacking):
    rows = grid(TEST_CORRUPTIONS)
    rows = [r for r in rows if r.name != "fog"] if lacking == "a corruption" else rows[:-1]
    (found,) = measures(rows)
    assert "mce" not in found.key
    assert f"mean over the {14 if lacking == 'a corruption' else 15} corruptions scored" in found.title


def test_corruptions_weigh_alike_where_severities_are_missing():
    (found,) = measures([score("fog", 1, 0.1), score("fog", 2, 0.3), score("snow", 1, 0.6)])
    assert found.values["baseline"] == (pytest.approx(0.4),)


def test_generated_corruptions_do_not_pass_for_the_benchmark():
    found = measures([*grid(TEST_CORRUPTIONS, "generated-c"), *grid(TEST_CORRUPTIONS)])
    assert [measure.key for measure in found] == ["test/mce15", "generated-c/mce15"]
    assert found[1].title.startswith("generated corruptions")
    assert corruption_measure(found) is found[0]


def test_a_model_that_was_not_scored_on_all_corruptions_is_left_out_of_their_mean():
    rows = [*grid(TEST_CORRUPTIONS), *grid(TEST_CORRUPTIONS[:3], model="trial-003")]
    (found,) = measures(rows)
    assert list(found.values) == ["baseline"]


def test_the_clean_error_of_a_subset_stands_beside_that_of_all_images():
    rows = [score("clean", None, 0.05, "clean", n=10_000), score("clean", 0, 0.07, n=128), *grid(TEST_CORRUPTIONS)]
    assert [(m.kind, m.images) for m in measures(rows)] == [("clean", 10_000), ("subset", 128), ("corruption", 100)]


def test_the_flip_probability_is_over_the_authors_ten_where_they_are_there():
    rows = [score(n, None, 0.02, "cifar-10-p", "flip_probability") for n in MFP_PERTURBATIONS]
    rows.append(score("speckle_noise", None, 0.9, "cifar-10-p", "flip_probability"))
    (found,) = measures(rows)
    assert (found.key, found.values) == ("test/mfp10", {"baseline": (pytest.approx(0.02),)})
    (part,) = measures(rows[5:])
    assert "6 perturbations scored" in part.title


def test_the_baseline_comes_first():
    rows = [score("fog", 1, 0.1, model=name) for name in ("trial-010", "baseline", "trial-002")]
    assert models(rows) == ["baseline", "trial-002", "trial-010"]
