"""How sure a number is, and which differences are real: intervals and paired tests over images and seeds.

A score has two kinds of chance in it: which images the test set happens to hold, and which seeds the trainings had.
Images are many and shared by all models, so they are resampled, all models at once (Efron's bootstrap). Seeds are few:
three values cannot be resampled to an honest interval, so the mean over seeds is given Student's t instead (Welch's
for a difference: Welch 1947, Biometrika 34). One number comes of both: the resampled value plus the drawn one.

`samples` throughout: (seeds, images) or (seeds, images, parts), a model's outcome on each image, such as 1 where it is
wrong. A statistic takes means over images, (…) or (…, parts), to values, (…).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

REPLICATES = 4000
LEVEL = 0.95
_SEED = 0  # of the resampling: a report made twice says the same
_BLOCK = 100  # replicates at once
_KEPT_IMAGES = 50_000  # of which weights take 200 MB; those of more are drawn again each time

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


def estimate(samples: np.ndarray, statistic: Statistic = itself) -> Estimate:
    """The value of one model: the statistic of each seed's training, averaged over seeds."""
    seeds, images = samples.shape[:2]
    of_seeds = statistic(samples.mean(axis=1, dtype=np.float64))
    drawn = np.concatenate([statistic(block) for block in _resampled(samples)])
    deviation = float(of_seeds.std(ddof=1)) if seeds > 1 else None
    value = float(of_seeds.mean())
    errors = _errors(drawn.mean(axis=1), [drawn], [of_seeds])
    low, high = value + _ends(errors)
    return Estimate(value, deviation, float(low), float(high), seeds, images)


def compare(ours: np.ndarray, theirs: np.ndarray, statistic: Statistic = itself) -> Comparison:
    """Ours minus theirs. samples of both: on the same images in the same order; seeds need not be as many.

    Raises ValueError where the images are not as many.
    """
    return _compared(ours, theirs, statistic, np.subtract, nothing=0.0)


def contrast(cells: Sequence[np.ndarray], weights: Sequence[float], statistic: Statistic = itself) -> Comparison:
    """A weighted sum of models' values, such as an effect of a factorial experiment; 0 where there is no effect.

    cells: samples of each model, all on the same images. weights: one for each, summing to 0. seeds of the result: the
    fewest and the most. Raises ValueError where the images are not as many.
    """
    images = {samples.shape[1] for samples in cells}
    if len(images) > 1:
        raise ValueError(f"models are compared on the same images, got {sorted(images)}")
    of_seeds = [
        weight * statistic(samples.mean(axis=1, dtype=np.float64))
        for samples, weight in zip(cells, weights, strict=True)
    ]
    drawn = [
        weight * np.concatenate([statistic(block) for block in _resampled(samples)])
        for samples, weight in zip(cells, weights, strict=True)
    ]
    value = float(sum(values.mean() for values in of_seeds))
    errors = _errors(np.sum([by_seed.mean(axis=1) for by_seed in drawn], axis=0), drawn, of_seeds)
    low, high = value + _ends(errors)
    p = _two_sided(value + errors, 0.0)
    counts = [len(samples) for samples in cells]
    return Comparison(value, float(low), float(high), p, p, (min(counts), max(counts)), images.pop())


def compare_ratio(
    ours: np.ndarray, theirs: np.ndarray, ratio: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Comparison:
    """As `compare`, for a number that divides ours by theirs and is 1 where there is no difference.

    ratio: takes both models' means over images, (…, parts) each, to values, (…).
    """
    return _compared(ours, theirs, itself, ratio, nothing=1.0)


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


def _compared(
    ours: np.ndarray,
    theirs: np.ndarray,
    statistic: Statistic,
    between: Callable[[np.ndarray, np.ndarray], np.ndarray],
    nothing: float,
) -> Comparison:
    """`between` takes the statistics of both models, (…, seeds) or (…, seeds, parts)."""
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"models are compared on the same images, got {ours.shape[1]} and {theirs.shape[1]}")
    a, b = (statistic(samples.mean(axis=1, dtype=np.float64)) for samples in (ours, theirs))
    # Each of ours against the mean of theirs, and the mean of ours against each of theirs.
    of_seeds = [between(a, b.mean(axis=0)[None]), between(a.mean(axis=0)[None], b)]
    value = float(of_seeds[0].mean())
    drawn: list[list[np.ndarray]] = [[], []]
    for x, y in zip(_resampled(ours), _resampled(theirs), strict=True):
        x, y = statistic(x), statistic(y)
        drawn[0].append(between(x, y.mean(axis=1, keepdims=True)))
        drawn[1].append(between(x.mean(axis=1, keepdims=True), y))
    of_ours, of_theirs = (np.concatenate(blocks) for blocks in drawn)
    errors = _errors(of_ours.mean(axis=1), [of_ours, of_theirs], of_seeds)
    low, high = value + _ends(errors)
    p = _two_sided(value + errors, nothing)
    return Comparison(value, float(low), float(high), p, p, (len(ours), len(theirs)), ours.shape[1])


def _two_sided(values: np.ndarray, nothing: float) -> float:
    beyond = min((values <= nothing).sum(), (values >= nothing).sum())
    return float(min(1.0, 2 * (beyond + 1) / (len(values) + 1)))


def _ends(errors: np.ndarray) -> np.ndarray:
    return np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def _errors(drawn: np.ndarray, by_seed: Sequence[np.ndarray], of_seeds: Sequence[np.ndarray]) -> np.ndarray:
    """Draws of how far a value lies from the truth, (replicates,).

    drawn: the value in each replicate of the images. by_seed: the same for each seed, (replicates, seeds), and
    of_seeds: what was measured of each, (seeds,); a pair for each model.
    """
    # Moved to 0: statistics that are no plain means, such as a calibration error, grow by resampling.
    errors = drawn - drawn.mean()
    spread = errors.var()
    # What a single training does to single images varies with the images and with the seeds: it must count once. The
    # seeds' deviation holds it, so it is taken from the images' part: there, it is what replicates of different seeds
    # do not share.
    twice = sum(_not_shared(replicates) for replicates in by_seed)
    if spread > 0:
        errors *= np.sqrt(max(spread - twice, 0.0) / spread)
    return errors + _student(of_seeds, len(errors))


def _not_shared(by_seed: np.ndarray) -> float:
    """The part of the variance of the mean over seeds, (replicates, seeds), that the seeds have each for itself."""
    seeds = by_seed.shape[1]
    if seeds < 2:
        return 0.0
    covariance = np.cov(by_seed, rowvar=False)
    own = np.trace(covariance) / seeds
    shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return float(max(own - shared, 0.0)) / seeds


def _student(of_seeds: Sequence[np.ndarray], count: int) -> np.ndarray:
    """`count` draws of the error of a sum of means over seeds; zeros where no side has two seeds.

    Quantiles of Student's t in random order, not draws of it: with so few degrees of freedom, draws would be rough.
    """
    sides = [values for values in of_seeds if len(values) > 1]
    variances = [float(values.var(ddof=1)) / len(values) for values in sides]
    total = sum(variances)
    if total <= 0:
        return np.zeros(count)
    freedom = total**2 / sum(v**2 / (len(values) - 1) for v, values in zip(variances, sides, strict=True))
    quantiles = stats.t.ppf((np.arange(count) + 0.5) / count, freedom)
    return np.sqrt(total) * np.random.default_rng([_SEED, 1]).permutation(quantiles)


def _resampled(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of replicates of the means over images, (replicates, seeds, …); images are the same for all calls."""
    seeds, images = samples.shape[:2]
    flat = np.moveaxis(samples, 0, 1).reshape(images, -1).astype(np.float32)
    means = flat.mean(axis=0, dtype=np.float64)
    flat -= means.astype(np.float32)  # about their means, float32 loses nothing
    for weights in _weights(images):
        drawn = (weights @ flat).astype(np.float64) / images + means
        yield drawn.reshape(len(weights), seeds, *samples.shape[2:])


def _weights(images: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, (replicates, images) float32, block by block, always the same."""
    blocks = _kept(images) if images <= _KEPT_IMAGES else _drawn(images)
    yield from (block.astype(np.float32) for block in blocks)


@lru_cache(maxsize=2)
def _kept(images: int) -> list[np.ndarray]:
    return list(_drawn(images))


def _drawn(images: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng([_SEED, images])
    rows = np.arange(_BLOCK, dtype=np.int32)[:, None] * images
    for _ in range(0, REPLICATES, _BLOCK):
        drawn = random.integers(0, images, (_BLOCK, images), dtype=np.int32) + rows
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * images).reshape(_BLOCK, images).astype(np.uint8)
