"""The paragraph at the top says what the numbers allow, and no more."""

from dataclasses import replace

import numpy as np
import pytest

from raycnn.reporting.answer import answer, chosen_trial
from raycnn.reporting.results import Run, read_run
from raycnn.reporting.score_words import difference_words, estimate_words, verdict
from raycnn.robustness.results import Row
from raycnn.robustness.statistics import Comparison, Estimate
from raycnn.robustness.summary import Measure, measures
from raycnn.search.front import finalists
from raycnn.search.journal import read_trials


def told(run: Run) -> tuple[str, str]:
    found = answer(run, measures(run.outcomes))
    return found.headline, " ".join(found.sentences).replace("\N{NO-BREAK SPACE}", " ")


def with_errors(run: Run, ours: list[int], theirs: list[int], images: int = 1000) -> Run:
    """The run with clean errors only, as many of the images for each seed; the same images, as far as they go."""
    trial = chosen_trial(run)
    assert trial is not None
    wrong = {
        (model, seed): (np.arange(images) < count).astype(np.float32)
        for model, counts in ((trial.name, ours), ("baseline", theirs))
        for seed, count in enumerate(counts)
    }
    rows = [Row(*key, "clean", "clean", 0, images, int(of.sum())) for key, of in wrong.items()]
    return replace(run, rows=tuple(rows), outcomes={("clean", "clean", 0, "wrong"): wrong})


@pytest.fixture
def run(run_dir) -> Run:
    return read_run(run_dir)


def test_the_trial_spoken_of_is_the_first_finalist(run_dir, run):
    first = finalists(read_trials(run_dir), 1)[0]
    chosen = chosen_trial(replace(run, rows=None, outcomes={}))
    assert chosen is not None
    assert chosen.number == first.number
    assert chosen_trial(run) == chosen


def test_a_difference_is_told_with_means_spreads_seeds_and_interval(run):
    headline, text = told(with_errors(run, [50, 51, 49], [80, 81, 79]))
    name = chosen_trial(run).name  # pyright: ignore[reportOptionalMemberAccess]
    assert headline == f"{name} makes fewer errors than the untuned baseline on clean images."
    assert text.startswith(
        f"On 1,000 test images {name} errs on 5.00 ± 0.10 %, the untuned baseline on 8.00 ± 0.10 % "
        "(mean ± standard deviation over 3 seeds): 3.00 points fewer, 95 % interval 1."
    )
    assert "p < 0.001" in text
    assert "no test image had a say" in text
    assert "unofficial" not in text


def test_a_worse_finalist_is_called_worse(run):
    headline, _ = told(with_errors(run, [80, 81, 79], [50, 51, 49]))
    assert "makes more errors" in headline


def test_overlap_is_no_difference(run):
    headline, text = told(with_errors(run, [50, 58, 54], [55, 60, 53]))
    assert headline.startswith("No difference between")
    assert "no difference shown, 95 % interval −" in text


def test_two_seeds_are_called_few_and_one_none(run):
    assert "Two seeds are very few" in told(with_errors(run, [50, 51], [60, 61]))[1]
    headline, text = told(with_errors(run, [50], [50]))
    assert headline.startswith("No difference between")
    assert "One seed has no spread" in text


def test_of_one_seed_that_differs_the_networks_are_told_and_the_settings_left_open(run):
    name = chosen_trial(run).name  # pyright: ignore[reportOptionalMemberAccess]
    headline, text = told(with_errors(run, [50], [100]))
    assert headline == (
        f"The network of {name} makes fewer errors than the untuned baseline's on clean images; a single training does "
        "not show whether the settings differ."
    )
    assert "5.00 points fewer, of these two networks, 95 % interval 3." in text
    assert "p < 0.001" in text


def test_two_seeds_that_do_not_show_a_difference_are_said_to_be_too_few(run):
    headline, text = told(with_errors(run, [50, 58], [55, 60]))
    assert headline.startswith("Two seeds cannot show a difference between")
    assert "two seeds cannot show a difference, 95 % interval −" in text


def test_two_seeds_can_show_a_large_difference(run):
    assert "makes fewer errors" in told(with_errors(run, [50, 51], [80, 81]))[0]


def test_clean_and_corrupted_images_are_told_apart(run):
    headline, text = told(run)
    assert "fewer errors than the untuned baseline on corrupted images; no difference was shown on clean" in headline
    assert "On CIFAR-10-C (mean over the 15 test corruptions, at 5 severities)" in text


def test_without_scores_the_answer_speaks_of_validation_and_warns(make):
    headline, text = told(read_run(make(scored=False)))
    assert headline.startswith("Best in validation: trial-")
    assert "expect worse on new images" in text
    assert "not scored yet" in text
    assert "Finals are off" in told(read_run(make(finals=False)))[1]


def test_unofficial_copies_are_told_of(make):
    assert "unofficial copies of cifar10" in told(read_run(make(data="cifar10", verified=False)))[1]


def test_a_run_without_a_complete_trial_says_so(run):
    headline, _ = told(replace(run, trials=run.trials[:1], rows=None, outcomes={}))
    assert headline == "No trial of the search has run to its end yet."


def test_a_run_without_a_scored_baseline_compares_nothing(run):
    rows = tuple(row for row in run.rows or () if row.model != "baseline")
    outcomes = {
        place: {key: values for key, values in trainings.items() if key[0] != "baseline"}
        for place, trainings in run.outcomes.items()
    }
    headline, text = told(replace(run, rows=rows, outcomes=outcomes))
    assert "no baseline" in headline
    assert "was not scored" in text


def test_words_of_numbers():
    of = Estimate(0.05123, 0.0011, 0.049, 0.053, 3, 1000)
    assert estimate_words(of).replace("\N{NO-BREAK SPACE}", " ") == "5.12 ± 0.11 %"
    assert estimate_words(replace(of, deviation=None), share=False) == "0.051"
    nothing = Comparison(0.01, -0.002, 0.022, 0.1, 0.2, (3, 3), 1000)
    assert difference_words(nothing).endswith("95 % interval −0.20 to +2.20 points, p = 0.2")


def test_a_verdict_names_the_lower_model_or_that_nothing_was_shown():
    random = np.random.default_rng(0)
    wrong = (random.random((3, 500)) < 0.1).astype(float)
    samples = {"baseline": np.maximum(wrong, random.random((3, 500)) < 0.3), "a": wrong, "b": wrong[::-1]}
    words = verdict(Measure("clean", "clean/error", "test images: error", samples))
    assert words.startswith("a is lower than baseline by ")
    assert "; b is lower than baseline by " in words
    assert words.endswith("No difference shown between b and a (p = 1).")
    single = Measure("clean", "k", "t", {name: of[:1] for name, of in samples.items()})
    assert verdict(single).startswith("a is lower than baseline by ")
    assert "of how they were trained, single trainings show nothing" in verdict(single)
