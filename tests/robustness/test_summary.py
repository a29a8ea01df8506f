"""Summary numbers: which outcomes go into which mean, and what it is called."""

import json
from typing import get_args

import numpy as np
import pytest

from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.robustness.evaluate import scored_images
from raycnn.robustness.metrics import MFP_PERTURBATIONS, expected_calibration_error, rms_calibration_error
from raycnn.robustness.results import Outcomes, epsilon_name
from raycnn.robustness.summary import corruption_measure, measures, models, relative
from raycnn.spec.recipe import Metric

N = 1000


def _share(value: float, n: int = N) -> np.ndarray:
    """That share of n images is wrong."""
    return (np.arange(n) < round(value * n)).astype(np.float32)


def grid(names, of="cifar-10-c", model="baseline", factor=1.0) -> Outcomes:
    """Corruption i at severity s has the error i / 100 + s / 1000."""
    return {
        (of, name, s, "wrong"): {(model, 0): _share(factor * (i / 100 + s / 1000))}
        for i, name in enumerate(names)
        for s in range(1, 6)
    }


def merged(*parts: Outcomes) -> Outcomes:
    found: Outcomes = {}
    for part in parts:
        for place, trainings in part.items():
            found.setdefault(place, {}).update(trainings)
    return found


def values(outcomes: Outcomes, **how) -> dict[str, float]:
    return {measure.key: measure.estimate("baseline").value for measure in measures(outcomes, **how)}


def test_mce15_is_the_mean_over_severities_and_the_15_test_corruptions():
    assert values(grid(TEST_CORRUPTIONS)) == {"cifar-10-c/mce15": pytest.approx(0.07 + 0.003)}


def test_19_corruptions_give_both_means_and_never_mix_them():
    found = values(grid(CORRUPTIONS))
    assert found == {"cifar-10-c/mce15": pytest.approx(0.073), "cifar-10-c/mce19": pytest.approx(0.093)}


def test_errors_and_their_means_equal_the_expected_values(reference):
    folder = reference("metrics")
    expected = json.loads((folder / "expected.json").read_text())["c"]
    labels = np.load(folder / "c_labels.npy")
    outcomes: Outcomes = {}
    for name, of_corruption in zip(expected["corruptions"], np.load(folder / "c_logits.npy"), strict=True):
        for severity, logits in enumerate(of_corruption, start=1):
            one = scored_images(("baseline", 0), "cifar-10-c", name, severity, logits, labels)
            assert one.row.error == pytest.approx(expected["error_per_severity"][name][severity - 1], abs=1e-6)
            outcomes["cifar-10-c", name, severity, "wrong"] = {("baseline", 0): one.outcomes["wrong"]}
    found = values(outcomes)
    assert found["cifar-10-c/mce15"] == pytest.approx(expected["mean_error_15"], abs=1e-6)
    assert found["cifar-10-c/mce19"] == pytest.approx(expected["mean_error_19"], abs=1e-6)
    for name in expected["corruptions"]:
        of_one = {place: trainings for place, trainings in outcomes.items() if place[1] == name}
        assert values(of_one) == {"cifar-10-c/mean-1": pytest.approx(expected["error"][name], abs=1e-6)}


@pytest.mark.parametrize("lacking", ["a corruption", "a severity"])
def test_an_incomplete_set_of_corruptions_is_called_what_it_is(lacking):
    outcomes = grid(TEST_CORRUPTIONS)
    for place in list(outcomes):
        if place[1] == "fog" and (lacking == "a corruption" or place[2] == 5):
            del outcomes[place]
    (found,) = measures(outcomes)
    assert "mce" not in found.key
    assert f"mean over the {14 if lacking == 'a corruption' else 15} corruptions scored" in found.title


def test_corruptions_weigh_alike_where_severities_are_missing():
    cells = {("fog", 1): 0.1, ("fog", 2): 0.3, ("snow", 1): 0.6}
    outcomes: Outcomes = {("cifar-10-c", n, s, "wrong"): {("baseline", 0): _share(e)} for (n, s), e in cells.items()}
    assert list(values(outcomes).values()) == [pytest.approx(0.4)]


def test_generated_corruptions_do_not_pass_for_the_benchmark_nor_another_benchmark_for_it():
    sets = [grid(TEST_CORRUPTIONS, of) for of in ("generated-c", "cifar-100-c", "cifar-10-c")]
    found = measures(merged(*sets))
    assert [measure.key for measure in found] == ["cifar-10-c/mce15", "cifar-100-c/mce15", "generated-c/mce15"]
    assert found[2].title.startswith("generated corruptions")
    assert corruption_measure(found) is found[0]


def test_errors_of_adapted_networks_stand_apart():
    found = measures(merged(grid(TEST_CORRUPTIONS), grid(TEST_CORRUPTIONS, "cifar-10-c-adapted", factor=0.5)))
    assert [(m.kind, m.key) for m in found] == [
        ("corruption", "cifar-10-c/mce15"),
        ("adapted", "cifar-10-c-adapted/mce15"),
    ]
    assert found[1].estimate("baseline").value == pytest.approx(0.073 / 2, abs=1e-3)
    assert corruption_measure(found) is found[0]


def test_a_training_that_was_not_scored_on_all_corruptions_is_left_out_of_their_mean():
    (found,) = measures(merged(grid(TEST_CORRUPTIONS), grid(TEST_CORRUPTIONS[:3], model="trial-003")))
    assert list(found.samples) == ["baseline"]


def test_the_clean_error_of_a_subset_stands_beside_that_of_all_images():
    outcomes: Outcomes = {
        ("clean", "clean", 0, "wrong"): {("baseline", 0): _share(0.05, 10_000)},
        ("cifar-10-c", "clean", 0, "wrong"): {("baseline", 0): _share(0.07)},
        **grid(TEST_CORRUPTIONS),
    }
    found = measures(outcomes)
    assert [(m.kind, m.images) for m in found] == [("clean", 10_000), ("subset", N), ("corruption", N)]


def videos(names, value: float, model: str = "baseline") -> Outcomes:
    return {("cifar-10-p", name, None, "flips"): {(model, 0): np.full(N, value, np.float32)} for name in names}


def test_the_flip_probability_is_over_the_authors_ten_where_they_are_there():
    outcomes = merged(videos(MFP_PERTURBATIONS, 0.02), videos(["speckle_noise"], 0.9))
    assert values(outcomes) == {"cifar-10-p/mfp10": pytest.approx(0.02)}
    (part,) = measures(dict(list(outcomes.items())[5:]))
    assert "6 perturbations scored" in part.title


def test_the_mean_is_also_given_without_spatter_where_spatter_was_tuned_on():
    outcomes = merged(videos(MFP_PERTURBATIONS, 0.02), videos(["spatter"], 0.12))
    found = values(outcomes, tuned_on=("spatter", "saturate"))
    assert found == {"cifar-10-p/mfp10": pytest.approx(0.03), "cifar-10-p/mfp9": pytest.approx(0.02)}


def test_calibration_errors_are_those_of_the_metrics():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(500, 10))
    labels = random.integers(0, 10, 500)
    confidence = np.exp(logits - logits.max(1, keepdims=True))
    confidence = confidence.max(1) / confidence.sum(1)
    key = ("baseline", 0)
    outcomes: Outcomes = {
        ("clean", "clean", 0, "wrong"): {key: (logits.argmax(1) != labels).astype(np.float32)},
        ("clean", "clean", 0, "confidence"): {key: confidence},
    }
    found = values(outcomes)
    assert found["clean/ece"] == pytest.approx(expected_calibration_error(logits, labels))
    assert found["clean/rms_calibration"] == pytest.approx(rms_calibration_error(logits, labels))


def test_mce_and_mfr_are_in_units_of_the_baseline():
    ours = merged(grid(TEST_CORRUPTIONS, model="a", factor=2), videos(MFP_PERTURBATIONS, 0.01, "a"))
    theirs = merged(grid(TEST_CORRUPTIONS, factor=4), videos(MFP_PERTURBATIONS, 0.02))
    found = relative(merged(ours, theirs))
    assert [one.key for one in found] == ["cifar-10-c/mce_relative", "cifar-10-p/mfr10"]
    assert [one.values["a"].difference for one in found] == [pytest.approx(0.5, abs=0.02), pytest.approx(0.5)]
    assert relative(ours) == []  # no baseline


def test_without_a_severity_there_is_no_mce():
    outcomes = merged(grid(TEST_CORRUPTIONS, factor=4), grid(TEST_CORRUPTIONS, model="a"))
    del outcomes["cifar-10-c", "fog", 5, "wrong"]
    assert relative(outcomes) == []


def test_a_baseline_that_hardly_errs_is_no_unit():
    few = {place: {("baseline", 0): _share(0.001)} for place in grid(TEST_CORRUPTIONS)}
    assert relative(merged(few, grid(TEST_CORRUPTIONS, model="a"))) == []


def test_what_may_be_published_is_what_is_measured():
    plain: Outcomes = {
        ("clean", "clean", 0, "wrong"): {("baseline", 0): _share(0.1)},
        ("cifar-100-c", "clean", 0, "wrong"): {("baseline", 0): _share(0.1)},
        ("fgsm", epsilon_name(8 / 255), None, "wrong"): {("baseline", 0): _share(0.5)},
        ("fgsm", epsilon_name(0), None, "wrong"): {("baseline", 0): _share(0.1)},
    }
    every = [f"{name}{scale}" for name in MFP_PERTURBATIONS for scale in ("", "_2", "_3")]
    corrupted = [grid(CORRUPTIONS, of) for of in ("cifar-10-c", "cifar-100-c")]
    found = values(merged(plain, *corrupted, videos(every, 0.02)))
    assert set(get_args(Metric)) <= found.keys()
    assert found["cifar-100-c/mce15"] == pytest.approx(0.073), "of the 15, without the clean images"
    assert found["fgsm/error"] == 0.5


def test_the_baseline_comes_first():
    assert models(["trial-010", "baseline", "trial-002", "trial-010"]) == ["baseline", "trial-002", "trial-010"]
