"""How many images a search will train on, before it starts."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from raycnn.data import folder
from raycnn.errors import DataError
from raycnn.search.scheduler import own_rungs
from raycnn.spec.search import Finals, SearchSpec

CIFAR_TRAINING_IMAGES = 50_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Images trained. likely: if each rung lets as many go on as its rule says; most: if none is stopped."""

    likely: int
    most: int
    finals: int


def estimate(spec: SearchSpec, root: Path | None) -> Estimate | None:
    """None where the number of training images is not known without reading them."""
    total = _training_images(spec, root)
    if total is None:
        return None
    held_out = spec.data.validation
    kept = total - (int(held_out) if held_out >= 1 else round(total * held_out))
    per_epoch = kept // spec.budget.batch_size * spec.budget.batch_size
    finals = 0
    if isinstance(spec.finals, Finals):
        epochs = spec.finals.epochs or spec.budget.epochs
        per_final_epoch = total // spec.budget.batch_size * spec.budget.batch_size
        finals = (spec.finals.top + 1) * spec.finals.seeds * epochs * per_final_epoch
    searched = spec.search.trials - 1
    whole = spec.budget.epochs * spec.search.repeats
    likely = whole + searched * _expected_epochs(spec)
    return Estimate(round(likely * per_epoch), spec.search.trials * whole * per_epoch, finals)


def _expected_epochs(spec: SearchSpec) -> float:
    """Of one searched trial."""
    factor = 2 if spec.search.scheduler == "median" else spec.search.reduction_factor
    wished = range(1, max(2, spec.search.trials)) if spec.search.scheduler == "hyperband" else (1,)
    totals = []
    for number in wished:
        last, share, before, expected = 1.0, 1.0, 0, 0.0
        for rung in (*own_rungs(spec, number), spec.budget.epochs):
            expected += share * (rung - before)
            last, share, before = share, share / factor, rung
        totals.append(expected + last * (spec.search.repeats - 1) * spec.budget.epochs)
    return statistics.mean(totals)


def _training_images(spec: SearchSpec, root: Path | None) -> int | None:
    match spec.data.name:
        case "shapes":
            return spec.data.train_images
        case "cifar10" | "cifar100":
            return CIFAR_TRAINING_IMAGES
        case _:
            try:
                return sum(map(len, folder.survey(root or spec.data.root or Path()).paths["train"]))
            except (DataError, OSError):
                return None
