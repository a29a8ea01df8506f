"""How much of the best value is selection bias: what it owes to having been picked by that very value."""

import statistics

from raycnn.reporting.results import Run, Trial
from raycnn.reporting.words import objective_words
from raycnn.robustness.summary import BASELINE, Measure


def selection_bias(run: Run, trial: Trial, clean: Measure | None) -> list[str]:
    """Sentences for the answer; none where nothing can be said.

    From repeats: the setting that is the best by one training of each, seen by the others. From finals: by how much the
    trial was ahead of the baseline in validation, and is on test images.
    """
    sentences = []
    objective = run.objectives[0]
    if gaps := picked_by_one(run, objective):
        mean, low, high = (
            _points(gap) if objective.endswith("_error") else f"{gap:+.3g}"
            for gap in (statistics.fmean(gaps), min(gaps), max(gaps))
        )
        sentences.append(
            f"Each setting was trained {len(gaps)} times. Pick the best by one training of each: its other trainings "
            f"have a {objective_words(objective)} that is worse by {mean} on average (from {low} to {high}, by the "
            "training that picks). So much is selection bias."
        )
    ahead = _ahead(run, trial)
    if ahead is not None and clean and (found := clean.pairs.get((trial.name, BASELINE))):
        kept = found.mirrored
        sentences.append(
            f"In validation {trial.name} was {_points(ahead)} ahead of the baseline; on clean test images it is "
            f"{_points(kept.difference)} (95 % interval {_points(kept.low)} to {_points(kept.high)}). The first is no "
            f"estimate of the second: of {len(run.of_state('COMPLETE'))} trials it was picked by the first (selection "
            "bias), and finals train on the validation images, too."
        )
    return sentences


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f} points".replace("-", "\N{MINUS SIGN}")


def picked_by_one(run: Run, objective: str) -> list[float]:
    """For each training in turn, of the best setting by it: the mean of its other trainings minus this one.

    Empty where fewer than two settings have several trainings.
    """
    settings = [
        [one[objective] for one in trial.repeats]
        for trial in run.of_state("COMPLETE")
        if len(trial.repeats) > 1 and all(objective in one for one in trial.repeats)
    ]
    if len(settings) < 2:
        return []
    gaps = []
    for turn in range(min(map(len, settings))):
        best = min(settings, key=lambda values, turn=turn: values[turn])
        others = [value for place, value in enumerate(best) if place != turn]
        gaps.append(statistics.fmean(others) - best[turn])
    return gaps


def _ahead(run: Run, trial: Trial) -> float | None:
    """By how much its validation error is below the baseline's."""
    name = "val/clean_error"
    baseline = next((one for one in run.of_state("COMPLETE") if one.kind == "baseline"), None)
    theirs, ours = (one.objectives.get(name) if one else None for one in (baseline, trial))
    return None if theirs is None or ours is None else theirs - ours
