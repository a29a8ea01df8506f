"""How much a search will train, before it starts: what its rungs let go on, and images."""

from dataclasses import dataclass

from raycnn.search.scheduler import own_rungs, rung_epochs
from raycnn.spec.search import Finals, SearchSpec

MOST_NUMBERS = 1000  # of trials that are followed through their brackets; more are like these


@dataclass(frozen=True, slots=True)
class Expected:
    """Of one searched trial, on average, if each rung lets as many go on as its rule says.

    epochs: of all its trainings. corrupted: evaluations on corrupted images. going_on: by rung, the share of trials
    that go on after it.
    """

    epochs: float
    corrupted: float
    going_on: dict[int, float]


def expected(spec: SearchSpec) -> Expected:
    """See Expected."""
    search, last = spec.search, spec.budget.epochs
    factor = 2 if search.scheduler == "median" else search.reduction_factor
    numbers = range(1, 1 + min(MOST_NUMBERS, max(1, search.trials - 1))) if search.scheduler == "hyperband" else (1,)
    epochs = corrupted = 0.0
    going_on = dict.fromkeys(rung_epochs(spec), 0.0)
    for number in numbers:
        own, share, before = own_rungs(spec, number), 1.0, 0
        for rung in (*rung_epochs(spec), last):
            epochs += share * (rung - before)
            corrupted += share
            if rung in own:
                share /= factor
            if rung != last:
                going_on[rung] += share
            before = rung
        epochs += share * (search.repeats - 1) * last
        corrupted += share * (search.repeats - 1) * (1 + len(rung_epochs(spec)))
    count = len(numbers)
    return Expected(epochs / count, corrupted / count, {rung: at / count for rung, at in going_on.items()})


@dataclass(frozen=True, slots=True)
class Estimate:
    """Images trained. likely: as `expected` says; most: if no trial is stopped."""

    likely: int
    most: int
    finals: int


def estimate(spec: SearchSpec, train: int, everything: int) -> Estimate:
    """train: images that a trial is trained on; everything: held-out ones too, which finals are trained on."""
    batch = spec.budget.batch_size
    per_epoch = train // batch * batch
    whole = spec.budget.epochs * spec.search.repeats
    likely = whole + (spec.search.trials - 1) * expected(spec).epochs
    finals = final_trainings(spec) * final_epochs(spec) * (everything // batch * batch)
    return Estimate(round(likely * per_epoch), spec.search.trials * whole * per_epoch, finals)


def final_trainings(spec: SearchSpec) -> int:
    return (spec.finals.top + 1) * spec.finals.seeds if isinstance(spec.finals, Finals) else 0


def final_epochs(spec: SearchSpec) -> int:
    return (spec.finals.epochs if isinstance(spec.finals, Finals) else None) or spec.budget.epochs
