"""Scores over seeds: the summary numbers of each model, their spreads, and whether two models differ.

Errors are fractions in [0, 1]. A mean over corruptions is named for the corruptions that it is over, and is given only
to models that were scored on all of them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raycnn.reporting.results import Score
from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.robustness.metrics import MFP_PERTURBATIONS, mean_corruption_error

SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTION_SETS = {"cifar-10-c": "CIFAR-10-C", "generated-c": "generated corruptions"}


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation (n - 1; None for one value) over n seeds."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """mean(ours) - mean(theirs), and the ends of its 95 % interval; None where seeds are too few to have one."""

    mean: float
    interval: tuple[float, float] | None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One summary number: `values[model]` has one value per seed. images: that each value rests on.

    kind: clean, subset (the first test images), corruption, flips or calibration. key: its name in the design.
    """

    kind: str
    key: str
    title: str
    values: dict[str, tuple[float, ...]]
    images: int


def spread(values: Sequence[float]) -> Spread:
    """Mean ± standard deviation. Raises ValueError for no value."""
    if not values:
        raise ValueError("spread wants at least one value")
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Welch's 95 % interval of the difference of two means (Welch 1947, Biometrika 34), seeds as the sample.

    None for the interval with one seed on either side, or where no seed differs from another.
    """
    mean = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return Difference(mean, None)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    if sum(parts) == 0:
        return Difference(mean, None)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (ours, theirs), strict=True))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return Difference(mean, (mean - half, mean + half))


def models(scores: Iterable[Score]) -> list[str]:
    """The baseline first, then the others by name."""
    return sorted({score.model for score in scores}, key=lambda model: (model != "baseline", model))


def measures(scores: Sequence[Score]) -> list[Measure]:
    """The summary numbers that the scores allow, clean error first."""
    clean = _clean(scores, "clean", "error", "clean", "error")
    found = [clean]
    for name, title in CORRUPTION_SETS.items():
        subset = _clean(scores, name, "error", "subset", "error on those that were corrupted")
        if subset and (clean is None or subset.images != clean.images):
            found.append(subset)
        found += _corruption_means(scores, name, title)
    found += [_flips(scores), _clean(scores, "clean", "ece", "calibration", "expected calibration error")]
    return [measure for measure in found if measure]


def corruption_measure(every: Sequence[Measure]) -> Measure | None:
    """The first mean over corruptions: the one that the answer speaks of."""
    return next((measure for measure in every if measure.kind == "corruption"), None)


def corruption_cells(scores: Iterable[Score], name: str) -> dict[tuple[str, int], dict[tuple[str, int], float]]:
    """(model, seed) -> (corruption, severity) -> error, of one set of corrupted images."""
    cells: dict[tuple[str, int], dict[tuple[str, int], float]] = {}
    for score in scores:
        if score.set == name and score.metric == "error" and score.severity:
            cells.setdefault((score.model, score.seed), {})[score.name, score.severity] = score.value
    return cells


def _corruption_means(scores: Sequence[Score], name: str, title: str) -> list[Measure]:
    cells = corruption_cells(scores, name)
    wished = set().union(*cells.values())
    whole = {place: errors for place, errors in cells.items() if set(errors) == wished}
    images = max((score.n for score in scores if score.set == name and score.severity), default=0)
    complete = [c for c in dict.fromkeys(c for c, _ in sorted(wished)) if all((c, s) in wished for s in SEVERITIES)]
    prefix = "test" if name == "cifar-10-c" else name
    chosen: list[tuple[str, str, list[str]]] = []
    if set(TEST_CORRUPTIONS) <= set(complete):
        chosen.append((f"{prefix}/mce15", f"{title}: error, mean over the 15 test corruptions", list(TEST_CORRUPTIONS)))
    if set(CORRUPTIONS) <= set(complete):
        chosen.append((f"{prefix}/mce19", f"{title}: error, mean over all 19 corruptions", list(CORRUPTIONS)))
    if not chosen and wished:
        scored = sorted({corruption for corruption, _ in wished})
        words = (
            "of the one corruption scored" if len(scored) == 1 else f"mean over the {len(scored)} corruptions scored"
        )
        chosen.append((f"{prefix}/mean-{len(scored)}", f"{title}: error, {words}", scored))
    return [
        Measure(
            "corruption",
            key,
            words,
            _by_model({place: _mean(errors, names) for place, errors in whole.items()}),
            images,
        )
        for key, words, names in chosen
    ]


def _mean(errors: dict[tuple[str, int], float], names: list[str]) -> float:
    """Over severities, then over corruptions."""
    rows = [[value for (name, _), value in sorted(errors.items()) if name == corruption] for corruption in names]
    if len({len(row) for row in rows}) == 1:
        return mean_corruption_error(np.array(rows))
    return float(np.mean([np.mean(row) for row in rows]))


def _flips(scores: Sequence[Score]) -> Measure | None:
    found = [score for score in scores if score.set == "cifar-10-p" and score.metric == "flip_probability"]
    if not found:
        return None
    names = {score.name for score in found}
    official = set(MFP_PERTURBATIONS) <= names
    over = set(MFP_PERTURBATIONS) if official else names
    values: dict[tuple[str, int], dict[str, float]] = {}
    for score in found:
        if score.name in over:
            values.setdefault((score.model, score.seed), {})[score.name] = score.value
    means = {place: float(np.mean(list(flips.values()))) for place, flips in values.items() if set(flips) == over}
    words = "the authors' ten perturbations" if official else f"the {len(over)} perturbations scored"
    key = f"test/mfp{'10' if official else f'-{len(over)}'}"
    return Measure("flips", key, f"CIFAR-10-P: flip probability, mean over {words}", _by_model(means), found[0].n)


def _clean(scores: Sequence[Score], of: str, metric: str, kind: str, title: str) -> Measure | None:
    """The rows of unchanged images."""
    found = [s for s in scores if s.set == of and s.metric == metric and s.name == "clean" and not s.severity]
    values = {(score.model, score.seed): score.value for score in found}
    key = {"clean": "test/clean_error", "calibration": "test/ece"}.get(kind, f"{of}/clean_error")
    return Measure(kind, key, f"test images: {title}", _by_model(values), found[0].n) if found else None


def _by_model(values: dict[tuple[str, int], float]) -> dict[str, tuple[float, ...]]:
    """One tuple per model, its seeds in order."""
    found: dict[str, list[float]] = {}
    for (model, _), value in sorted(values.items()):
        found.setdefault(model, []).append(value)
    return {model: tuple(seeds) for model, seeds in found.items()}
