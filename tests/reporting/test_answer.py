"""The paragraph at the top says what the numbers allow, and no more."""

from dataclasses import replace

import pytest

from raycnn.reporting.answer import answer, chosen_trial, difference_words, spread_words
from raycnn.reporting.results import Run, Score, read_run
from raycnn.reporting.scores import Difference, Spread, measures
from raycnn.search.front import finalists
from raycnn.search.study import read_trials


def told(run: Run) -> tuple[str, str]:
    found = answer(run, measures(run.scores or ()))
    return found.headline, " ".join(found.sentences).replace("\N{NO-BREAK SPACE}", " ")


def with_scores(run: Run, ours: list[float], theirs: list[float]) -> Run:
    """The run with clean errors only, one for each seed."""
    trial = chosen_trial(run)
    assert trial is not None
    pairs = [(trial.name, ours), ("baseline", theirs)]
    rows = [
        Score(model, seed, "clean", "clean", None, "error", 1000, None, value)
        for model, values in pairs
        for seed, value in enumerate(values)
    ]
    return replace(run, scores=tuple(rows))


@pytest.fixture
def run(run_dir) -> Run:
    return read_run(run_dir)


def test_the_trial_spoken_of_is_the_first_finalist(run_dir, run):
    first = finalists(read_trials(run_dir), 1)[0]
    chosen = chosen_trial(replace(run, scores=None))
    assert chosen is not None
    assert chosen.number == first.number
    assert chosen_trial(run) == chosen


def test_a_difference_is_told_with_means_spreads_seeds_and_interval(run):
    headline, text = told(with_scores(run, [0.05, 0.051, 0.049], [0.06, 0.061, 0.059]))
    name = chosen_trial(run).name  # pyright: ignore[reportOptionalMemberAccess]
    assert headline == f"{name} makes fewer errors than the untuned baseline on clean images."
    assert text.startswith(
        f"On 1,000 test images {name} errs on 5.00 ± 0.10 %, the untuned baseline on 6.00 ± 0.10 % "
        "(mean ± standard deviation over 3 seeds): 1.00 points fewer, 95 % interval 0.77 to 1.23."
    )
    assert "no test image had a say" in text
    assert "unofficial" not in text


def test_a_worse_finalist_is_called_worse(run):
    headline, _ = told(with_scores(run, [0.06, 0.061, 0.059], [0.05, 0.051, 0.049]))
    assert "makes more errors" in headline


def test_overlap_is_no_difference(run):
    headline, text = told(with_scores(run, [0.05, 0.058, 0.054], [0.055, 0.06, 0.053]))
    assert headline.startswith("No difference between")
    assert "no difference shown, 95 % interval −" in text


def test_two_seeds_are_called_few_and_one_none(run):
    assert "Two seeds are very few" in told(with_scores(run, [0.05, 0.051], [0.06, 0.061]))[1]
    headline, text = told(with_scores(run, [0.05], [0.06]))
    assert headline.startswith("No difference")
    assert "One seed has no spread" in text


def test_clean_and_corrupted_images_are_told_apart(run):
    headline, text = told(run)
    assert "clean images and on corrupted images" in headline
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
    headline, _ = told(replace(run, trials=run.trials[:1], scores=None))
    assert headline == "No trial of the search has run to its end yet."


def test_a_run_without_a_scored_baseline_compares_nothing(run):
    rows = tuple(score for score in run.scores or () if score.model != "baseline")
    headline, text = told(replace(run, scores=rows))
    assert "no baseline" in headline
    assert "was not scored" in text


def test_words_of_numbers():
    assert (
        spread_words(Spread(0.05123, 0.0011, 3)) == "5.12\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.11\N{NO-BREAK SPACE}%"
    )
    assert difference_words(Difference(0.01, (-0.002, 0.022))).endswith("95 % interval −0.20 to +2.20 points")
