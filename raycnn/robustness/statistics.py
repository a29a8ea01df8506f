"""How sure a number is, and which differences are real: intervals and paired tests over images and seeds.

A score has two kinds of chance in it: which images the test set happens to hold, and which seeds the trainings had. All
models are scored on the same images, so what images add to a difference is the variance of the paired difference.
Seeds are few, so what they add is given Student's t (Welch's for a difference: Welch 1947, Biometrika 34). The error of
a number is the sum of both, and its distribution is that of the sum (as in the solution of Behrens and Fisher).

`samples` throughout: (seeds, images) or (seeds, images, parts), a model's outcome on each image, such as 1 where it is
wrong. A statistic takes means over images, (…) or (…, parts), to values, (…). `share`: outcomes are 0, 1 or between.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from raycnn.robustness.resampling import resampled

LEVEL = 0.95
_NODES = (np.arange(2000) + 0.5) / 2000  # of Student's t, where two errors are added

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value over `seeds` trainings, their standard deviation (None of one), and its 95 % interval."""

    value: float
    deviation: float | None
    low: float
    high: float
    seeds: int
    images: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against theirs, on the same images, with a 95 % interval.

    p: two-sided, of there being no difference. holm: p after Holm's correction for the family of comparisons that
    `corrected` was given; p itself before that.
    """

    difference: float
    low: float
    high: float
    p: float
    holm: float
    seeds: tuple[int, int]
    images: int

    @property
    def differs(self) -> bool:
        """Whether these very networks differ, at 5 % after correction."""
        return self.holm < 1 - LEVEL

    @property
    def real(self) -> bool:
        """Whether their trainings differ: shown by two seeds or more on either side, never by single ones."""
        return self.differs and min(self.seeds) > 1

    @property
    def mirrored(self) -> "Comparison":
        """Theirs against ours."""
        return Comparison(
            -self.difference, -self.high, -self.low, self.p, self.holm, (self.seeds[1], self.seeds[0]), self.images
        )


def itself(means: np.ndarray) -> np.ndarray:
    """The statistic of a plain mean."""
    return means


def estimate(samples: np.ndarray, statistic: Statistic = itself, share: bool = False) -> Estimate:
    """The value of one model: the statistic of each seed's training, averaged over seeds.

    Of shares, what images add is Wilson's interval (Wilson 1927, JASA 22) of as many independent images as have this
    variance, and both ends lie in [0, 1]: it has a width also where all images or none are wrong.
    """
    seeds, images = samples.shape[:2]
    of_seeds, covariance = _measured([samples], statistic)
    side = _side(of_seeds, covariance)
    value = float(of_seeds.mean())
    variance = _of_images(float(covariance.mean()), [side])
    if share:
        widths = [abs(value - end) / _normal_width() for end in _wilson(value, variance, images)]
    else:
        widths = [np.sqrt(variance)] * 2
    low, high = (
        value + sign * _Error(width, images, [side]).half_width() for sign, width in zip((-1, 1), widths, strict=True)
    )
    if share:
        low, high = max(low, 0.0), min(high, 1.0)
    deviation = float(of_seeds.std(ddof=1)) if seeds > 1 else None
    return Estimate(value, deviation, float(low), float(high), seeds, images)


def compare(ours: np.ndarray, theirs: np.ndarray, statistic: Statistic = itself, share: bool = False) -> Comparison:
    """Ours minus theirs. samples of both: on the same images in the same order; seeds need not be as many.

    Raises ValueError where the images are not as many.
    """
    found = contrast([ours, theirs], [1, -1], statistic, share)
    return dataclasses.replace(found, seeds=(len(ours), len(theirs)))


def contrast(
    cells: Sequence[np.ndarray], weights: Sequence[float], statistic: Statistic = itself, share: bool = False
) -> Comparison:
    """A weighted sum of models' values, such as an effect of a factorial experiment; 0 where there is no effect.

    cells: samples of each model, all on the same images. weights: one for each, summing to 0. seeds of the result: the
    fewest and the most. Of shares, one more image is counted that tells the models apart, so that every interval has a
    width. Raises ValueError where the images are not as many.
    """
    images = _same_images(cells)
    counts = [len(samples) for samples in cells]
    of_seeds, covariance = _measured(cells, statistic)
    each = np.repeat([weight / count for weight, count in zip(weights, counts, strict=True)], counts)
    ends = np.cumsum(counts)
    sides = [
        _side(of_seeds[end - count : end], covariance[end - count : end, end - count : end], weight)
        for end, count, weight in zip(ends, counts, weights, strict=True)
    ]
    variance = _of_images(float(each @ covariance @ each), sides)
    if share:
        variance += float(np.square(weights).sum()) / 2 / images**2
    error = _Error(np.sqrt(variance), images, sides)
    return _compared(float(each @ of_seeds), error, 0.0, (min(counts), max(counts)), images)


def compare_ratio(
    ours: np.ndarray, theirs: np.ndarray, ratio: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Comparison:
    """As `compare`, for a number that divides ours by theirs and is 1 where there is no difference.

    ratio: takes both models' means over images, (…, parts) each, to values, (…).
    """
    images = _same_images([ours, theirs])
    a, b = (samples.mean(axis=1, dtype=np.float64) for samples in (ours, theirs))
    drawn: list[list[np.ndarray]] = [[], []]  # each of ours against the mean of theirs, and the other way
    for x, y in zip(resampled(ours), resampled(theirs), strict=True):
        drawn[0].append(ratio(x, y.mean(axis=1, keepdims=True)))
        drawn[1].append(ratio(x.mean(axis=1, keepdims=True), y))
    of_ours, of_theirs = (np.concatenate(blocks) for blocks in drawn)
    values = ratio(a, b.mean(axis=0)[None])
    sides = [
        _side(values, _covariance(of_ours.T)),
        _side(ratio(a.mean(axis=0)[None], b), _covariance(of_theirs.T)),
    ]
    variance = _of_images(float(of_ours.mean(axis=1).var()), sides)
    error = _Error(np.sqrt(variance), images, sides)
    return _compared(float(values.mean()), error, 1.0, (len(ours), len(theirs)), images)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Holm's step-down correction (Holm 1979, Scandinavian Journal of Statistics 6) over one family of comparisons."""
    order = sorted(range(len(comparisons)), key=lambda index: comparisons[index].p)
    found = list(comparisons)
    largest = 0.0
    for place, index in enumerate(order):
        one = comparisons[index]
        largest = max(largest, min(1.0, (len(order) - place) * one.p))
        found[index] = dataclasses.replace(one, holm=largest)
    return found


def _same_images(cells: Sequence[np.ndarray]) -> int:
    counts = [samples.shape[1] for samples in cells]
    if len(set(counts)) > 1:
        raise ValueError(f"models are compared on the same images, got {' and '.join(map(str, counts))}")
    return counts[0]


def _measured(cells: Sequence[np.ndarray], statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """The values of all seeds of all models in a row, (n,), and their covariance by the choice of images, (n, n)."""
    of_seeds = np.concatenate([statistic(samples.mean(axis=1, dtype=np.float64)) for samples in cells])
    if statistic is itself:
        rows = np.concatenate(cells).astype(np.float64)
        return of_seeds, _covariance(rows) / rows.shape[1]
    drawn = [np.concatenate([statistic(block) for block in resampled(samples)]) for samples in cells]
    return of_seeds, _covariance(np.concatenate(drawn, axis=1).T)


def _covariance(rows: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.cov(rows, ddof=min(1, rows.shape[1] - 1)))


@dataclass(frozen=True, slots=True)
class _Side:
    """What one model adds to the variance of a number, by its mean over seeds.

    own: by images, what each seed has for itself: what replicates of different seeds do not share. shown: by seeds,
    after their deviation, which holds `own`. freedom: degrees of freedom of `shown`.
    """

    own: float
    shown: float
    freedom: int


def _side(of_seeds: np.ndarray, covariance: np.ndarray, weight: float = 1.0) -> _Side:
    """of_seeds: (seeds,). covariance: of them by the choice of images, (seeds, seeds)."""
    seeds = len(of_seeds)
    if seeds < 2:
        return _Side(0.0, 0.0, 0)
    own = np.trace(covariance) / seeds
    shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    scale = weight**2 / seeds
    return _Side(scale * max(own - shared, 0.0), scale * float(of_seeds.var(ddof=1)), seeds - 1)


def _of_images(variance: float, sides: Sequence[_Side]) -> float:
    """What is left for images, of the variance by images, once the seeds' deviation is counted beside it.

    What a single training does to single images is in both, and must count once. At most what the seeds show is taken
    away: where they happen to agree, the images still vary.
    """
    twice = min(sum(side.own for side in sides), sum(side.shown for side in sides))
    return max(variance - twice, 0.0)


class _Error:
    """How far a number lies from the truth: an error by images plus one by seeds, each a scale times Student's t."""

    def __init__(self, of_images: float, images: int, sides: Sequence[_Side]) -> None:
        """of_images: standard deviation by the choice of images."""
        shown = sum(side.shown for side in sides)
        parts = sum(side.shown**2 / side.freedom for side in sides if side.freedom)
        by_images = (of_images, max(images - 1, 1))
        by_seeds = (float(np.sqrt(shown)), shown**2 / parts if parts > 0 else 1.0)
        (small, freedom), self._large = sorted([by_images, by_seeds])
        self._small = small * stats.t.ppf(_NODES, freedom)
        # In 2.5 % of cases one of both errors exceeds its own distance, so their sum exceeds the two together seldomer.
        self._most = sum(float(s * stats.t.isf((1 - LEVEL) / 4, freedom)) for s, freedom in (by_images, by_seeds))

    def beyond(self, distance: float) -> float:
        """The probability of an error larger than `distance`, on either side. Without any error: 1 at 0, else 0."""
        scale, freedom = self._large
        if not scale:
            return float(np.isclose(distance, 0, atol=1e-12))
        return float(2 * stats.t.sf((abs(distance) - self._small) / scale, freedom).mean())

    def half_width(self) -> float:
        """The distance that is exceeded in 5 % of cases."""
        if not self._most:
            return 0.0
        found: Any = optimize.brentq(
            lambda distance: self.beyond(distance) - (1 - LEVEL), 0, self._most, xtol=1e-7 * self._most
        )
        return float(found)


def _compared(value: float, error: _Error, nothing: float, seeds: tuple[int, int], images: int) -> Comparison:
    half, p = error.half_width(), min(1.0, error.beyond(value - nothing))
    return Comparison(value, value - half, value + half, p, p, seeds, images)


def _wilson(share: float, variance: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that has this variance; of 0 and 1, as of so many images."""
    spread = max(share * (1 - share), 0.0)
    of_one = variance / spread if spread > 1e-12 else 1 / images  # 1 / the independent images
    z = _normal_width()
    scale = 1 + z**2 * of_one
    centre = (share + z**2 * of_one / 2) / scale
    half = z / scale * np.sqrt(spread * of_one + (z * of_one / 2) ** 2)
    return centre - half, centre + half


def _normal_width() -> float:
    return float(stats.norm.isf((1 - LEVEL) / 2))
