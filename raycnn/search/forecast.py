"""How long a search will take and how much disk, before it starts: by some steps that are timed here, and assumed
linear in images, network passes, workers and slots."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import torch

from raycnn import models
from raycnn.errors import RaycnnError, SpecError
from raycnn.robustness.corruptions import SEVERITIES, VALIDATION_CORRUPTIONS
from raycnn.robustness.units import Unit
from raycnn.search.estimate import expected, final_epochs
from raycnn.search.resources import Resources
from raycnn.search.scheduler import rung_epochs
from raycnn.search.study import baseline_spec
from raycnn.slots.pool import SlotShape
from raycnn.spec.search import SearchSpec
from raycnn.spec.trial import TrialSpec
from raycnn.training.pace import Pace, measure
from raycnn.training.size import checkpoint_bytes

GENERATED_S = 2e-4
"""Seconds of one core for a corrupted image of 32 px: `raycnn corrupt` made 950,000 in 95 s on two."""
ATTACK = 3
"""How many times as long as an evaluation an attack's pass takes at most: it goes backwards too, and in fp32."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Images: that a trial is trained on, held out of those, and for testing; classes; side in pixels."""

    train: int
    validation: int
    test: int
    classes: int
    side_px: int


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds: likely, and between which they are."""

    likely: float
    least: float
    most: float


def _span(likely: float, *others: float) -> Span:
    """Paces are measured: that of more work may come out as the faster one."""
    return Span(likely, min(likely, *others), max(likely, *others))


@dataclass(frozen=True, slots=True)
class Measured:
    """Paces of one slot: of the baseline, of the setting with most passes, and between them of the mean setting.

    words: how they came about.
    """

    baseline: Pace
    likely: Pace
    heaviest: Pace
    words: str


def measured_here(spec: SearchSpec, counts: Counts, settings: Sequence[TrialSpec], shape: SlotShape) -> Measured | None:
    """None where trials get GPUs and there is none here. settings: that the search may try.

    Changes this process: its number of threads. Raises SpecError for a setting that cannot be trained.
    """
    device = torch.device("cuda" if shape.gpus else "cpu")
    if shape.gpus and not torch.cuda.is_available():
        return None
    threads = max(1, min(round(shape.cpus), os.cpu_count() or 1))
    torch.set_num_threads(threads)
    baseline = baseline_spec(spec)
    heaviest = max([baseline, *settings], key=lambda setting: setting.regularizers.passes)
    slower = (1 / min(1.0, shape.gpus) if shape.gpus else threads / shape.cpus) / shape.workers
    light, heavy = (_pace(setting, counts, device).slower(slower) for setting in (baseline, heaviest))
    usual = mean(setting.regularizers.passes for setting in settings or [baseline])
    fewest, most = baseline.regularizers.passes, heaviest.regularizers.passes
    share = (usual - fewest) / (most - fewest) if most > fewest else 0.5
    place = torch.cuda.get_device_name() if shape.gpus else f"{threads} thread{'s' if threads > 1 else ''} of this CPU"
    words = f"{light.steps + heavy.steps} steps on {place}, one worker, untuned and with most passes"
    return Measured(light, light.towards(heavy, share), heavy, words)


def _pace(setting: TrialSpec, counts: Counts, device: torch.device) -> Pace:
    try:
        return measure(setting, counts.classes, counts.side_px, device)
    except RaycnnError:
        raise
    except Exception as error:  # a user's own network, or missing memory
        raise SpecError(
            f"model: {setting.model}: a step of {setting.batch_size} images fails ({models.cause(error)}). "
            "Mend the network, or lower budget.batch_size."
        ) from error


def search_s(spec: SearchSpec, counts: Counts, measured: Measured, slots: int, finished: int) -> Span:
    """What is left of the trials."""
    left, usual = spec.search.trials - finished, expected(spec)
    whole = (float(spec.budget.epochs), 1.0 + len(rung_epochs(spec)))
    spoilt = _corrupted_images(spec, counts)

    def training_s(pace: Pace, epochs: float, corrupted: float) -> float:
        evaluated = epochs * counts.validation + corrupted * spoilt
        return epochs * counts.train * pace.train_s + evaluated * pace.evaluate_s

    def total_s(pace: Pace, epochs: float, corrupted: float) -> float:
        baseline = 0 if finished else spec.search.repeats * training_s(measured.baseline, *whole)  # it is never stopped
        return max(baseline, (baseline + (left - (not finished)) * training_s(pace, epochs, corrupted)) / slots)

    if left <= 0:
        return Span(0, 0, 0)
    unstopped = tuple(spec.search.repeats * part for part in whole)
    return _span(
        total_s(measured.likely, usual.epochs, usual.corrupted),
        total_s(measured.baseline, usual.epochs, usual.corrupted),
        total_s(measured.heaviest, *unstopped),
    )


def finals_s(spec: SearchSpec, counts: Counts, measured: Measured, slots: int, left: int) -> Span:
    """Of those that are left; a slot trains one after the other."""
    images = -(-left // slots) * final_epochs(spec) * (counts.train + counts.validation)
    return _span(*(images * pace.train_s for pace in (measured.likely, measured.baseline, measured.heaviest)))


def scoring_s(
    counts: Counts, measured: Measured, units: Sequence[Unit], resources: Resources, shape: SlotShape, trainings: int
) -> Span:
    """On processors the whole cluster scores; else each GPU does, and processors corrupt."""
    share = shape.gpus * shape.workers / resources.gpus if shape.gpus else shape.cpus * shape.workers / resources.cpus
    made = sum(unit.images for unit in units if unit.set == "generated-c") * (counts.side_px / 32) ** 2
    making_s = made * GENERATED_S / resources.cpus
    attacked = sum(unit.images for unit in units if unit.epsilons)
    seen = sum(unit.images for unit in units) - attacked

    def total_s(pace: Pace, attack: float) -> float:
        return making_s + trainings * (seen + attack * attacked) * pace.evaluate_s * share

    paces = sorted((measured.baseline, measured.heaviest), key=lambda pace: pace.evaluate_s)
    return _span(total_s(measured.likely, (1 + ATTACK) / 2), total_s(paces[0], 1), total_s(paces[1], ATTACK))


def run_bytes(
    spec: SearchSpec,
    counts: Counts,
    settings: Sequence[TrialSpec],
    units: Sequence[Unit],
    finished: int,
    finals_left: int,
) -> int:
    """At most, of what is still to be written to the run directory: two checkpoints of each training, the corrupted
    held-out images, and a byte for each image that a final is scored on."""
    size = max(checkpoint_bytes(one, counts.classes, counts.side_px) for one in (baseline_spec(spec), *settings))
    trainings = max(0, spec.search.trials - finished) * spec.search.repeats
    kept = trainings * min(2, spec.budget.epochs) + finals_left * min(2, final_epochs(spec))
    corrupted = _corrupted_images(spec, counts) * 3 * counts.side_px**2
    return kept * size + corrupted + finals_left * sum(unit.images for unit in units)


def _corrupted_images(spec: SearchSpec, counts: Counts) -> int:
    """That a trial is evaluated on at each rung and at its end."""
    if "val/corruption_error" not in spec.search.objectives:
        return 0
    images = min(spec.search.corruption_images, counts.validation)
    return len(VALIDATION_CORRUPTIONS) * len(SEVERITIES) * images
