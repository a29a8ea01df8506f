"""How much of the best value is luck: what it owes to having been picked by it."""

import statistics

from raycnn.reporting.results import Run, Trial
from raycnn.reporting.words import objective_words
from raycnn.robustness.summary import BASELINE, Measure


def luck_sentences(run: Run, trial: Trial, clean: Measure | None) -> list[str]:
    """Sentences for the answer; none where nothing can be said.

    From repeats: the setting that is the best by one training of each, seen by the others. From finals: by how much the
    trial was ahead of the baseline in validation, and is on test images.
    """
    sentences = []
    objective = run.objectives[0]
    luck = picked_by_one(run, objective)
    if luck is not None:
        gap, count = luck
        size = _points(gap) if objective.endswith("_error") else f"{gap:+.3g}"
        sentences.append(
            f"Of {count} settings with several trainings, the best by one training has a {objective_words(objective)} "
            f"that its other trainings miss by {size} on average: so much is luck."
        )
    ahead = _ahead(run, trial)
    if ahead is not None and clean and {trial.name, BASELINE} <= clean.samples.keys():
        kept = clean.estimate(BASELINE).value - clean.estimate(trial.name).value
        sentences.append(
            f"In validation {trial.name} was {_points(ahead)} ahead of the baseline, on clean test images it is "
            f"{_points(kept)}: being picked from {len(run.of_state('COMPLETE'))} trials flattered it by "
            f"{_points(ahead - kept)}."
        )
    return sentences


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f} points".replace("-", "\N{MINUS SIGN}")


def picked_by_one(run: Run, objective: str) -> tuple[float, int] | None:
    """(mean gap, settings): for each training in turn, the best setting by it, its other trainings minus this one."""
    settings = [
        [one[objective] for one in trial.repeats]
        for trial in run.of_state("COMPLETE")
        if len(trial.repeats) > 1 and all(objective in one for one in trial.repeats)
    ]
    if len(settings) < 2:
        return None
    gaps = []
    for turn in range(min(map(len, settings))):
        best = min(settings, key=lambda values, turn=turn: values[turn])
        others = [value for place, value in enumerate(best) if place != turn]
        gaps.append(statistics.fmean(others) - best[turn])
    return statistics.fmean(gaps), len(settings)


def _ahead(run: Run, trial: Trial) -> float | None:
    """By how much its validation error is below the baseline's."""
    name = "val/clean_error"
    baseline = next((one for one in run.of_state("COMPLETE") if one.kind == "baseline"), None)
    theirs, ours = (one.objectives.get(name) if one else None for one in (baseline, trial))
    return None if theirs is None or ours is None else theirs - ours
