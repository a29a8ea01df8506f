"""The summary numbers of scored models: what each is a mean over, on which images, with what interval.

A mean over corruptions is named for the corruptions that it is over, and is given only for trainings that were scored
on all of them. Everything is made from the outcomes on single images, so that every number has an interval.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, TEST_CORRUPTIONS
from raycnn.robustness.metrics import (
    ALEXNET_ERRORS,
    MFP_PERTURBATIONS,
    calibration_parts,
    expected_gap,
    mean_ratio,
    rms_gap,
)
from raycnn.robustness.results import Key, Outcomes, epsilon_name
from raycnn.robustness.statistics import (
    Comparison,
    Estimate,
    Statistic,
    compare,
    compare_ratio,
    corrected,
    estimate,
    itself,
)

BASELINE = "baseline"
CORRUPTION_SETS = {
    "cifar-10-c": "CIFAR-10-C",
    "cifar-100-c": "CIFAR-100-C",
    "imagenet-c": "ImageNet-C",
    "generated-c": "generated corruptions",
}
_ATTACKS = {"fgsm": "FGSM", "pgd": "PGD"}
_USUAL_EPSILON = epsilon_name(8 / 255)
_LEAST_ERRORS = 10  # of a baseline, on each corruption, for numbers that are in units of it

Cells = dict[tuple[str, int], dict[Key, np.ndarray]]
"""(corruption, severity) -> where each training errs."""


@dataclass(frozen=True)  # without slots, for the sake of what is computed once
class Measure:
    """One summary number of all models.

    kind: clean, subset (those test images that were corrupted), corruption, relative (to AlexNet's errors), adapted,
    flips, ranking, attack or calibration. key: the set and the number, such as "cifar-10-c/mce15": its name everywhere.
    samples: model -> (seeds, images) or (seeds, images, parts).
    share: whether it is printed in percent: a fraction of 1, or of AlexNet's errors.
    """

    kind: str
    key: str
    title: str
    samples: Mapping[str, np.ndarray]
    statistic: Statistic = itself
    share: bool = True

    @property
    def images(self) -> int:
        """Images, or videos, that each value rests on."""
        return next(iter(self.samples.values())).shape[1]

    @property
    def is_mean(self) -> bool:
        """Whether it is a plain mean of outcomes in [0, 1]."""
        return self.share and self.statistic is itself

    def estimate(self, model: str) -> Estimate:
        """The interval ends where such numbers do: all are at least 0, and calibration errors at most 1."""
        of = estimate(self.samples[model], self.statistic, self.is_mean)
        most = 1.0 if self.kind == "calibration" else of.high
        return replace(of, low=max(of.low, 0.0), high=min(of.high, most))

    def compare(self, ours: str, theirs: str) -> Comparison:
        return compare(self.samples[ours], self.samples[theirs], self.statistic, self.is_mean)

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Comparison]:
        """Every pair of models, the later one against the earlier, p corrected for all of them together."""
        names = list(itertools.combinations(models(self.samples), 2))
        found = corrected([self.compare(ours, theirs) for theirs, ours in names])
        return {(ours, theirs): one for (theirs, ours), one in zip(names, found, strict=True)}


@dataclass(frozen=True, slots=True)
class Relative:
    """A number in units of the baseline's: 1 where there is no difference."""

    key: str
    title: str
    values: Mapping[str, Comparison]


def models(names: Iterable[str]) -> list[str]:
    """The baseline first, then the others by name."""
    return sorted(set(names), key=lambda model: (model != BASELINE, model))


def measures(outcomes: Outcomes, tuned_on: Collection[str] = ()) -> list[Measure]:
    """The summary numbers that the outcomes allow, clean error first.

    tuned_on: corruptions that the search has looked at; where spatter is among them, a mean over perturbations is
    also given without it.
    """
    found = [_of_images(outcomes, "clean", "clean", "clean/error", "test images: error")]
    for of, title in CORRUPTION_SETS.items():
        subset = _of_images(outcomes, of, "subset", f"{of}/clean_error", "test images: error on those corrupted")
        if subset and (found[0] is None or subset.images != found[0].images):
            found.append(subset)
        found += _corruption_means(outcomes, of, title)
        if of == "imagenet-c":
            found.append(_in_units_of_alexnet(outcomes))
        found += _corruption_means(outcomes, f"{of}-adapted", f"{title}, batch norm adapted to it", "adapted")
    found += _perturbation_means(outcomes, tuned_on)
    found += [_under_attack(outcomes, of, title) for of, title in _ATTACKS.items()]
    found += [
        _calibration(outcomes, "clean/ece", "expected calibration error", expected_gap),
        _calibration(outcomes, "clean/rms_calibration", "RMS calibration error", rms_gap),
    ]
    return [measure for measure in found if measure and measure.samples]


def relative(outcomes: Outcomes) -> list[Relative]:
    """mCE and mFR against the baseline; without those where the baseline errs too seldom to be a unit."""
    found = []
    for of, title in CORRUPTION_SETS.items():
        cells = corruption_cells(outcomes, of)
        if _has(cells, TEST_CORRUPTIONS):
            words = f"{title}: mCE, errors on the 15 test corruptions in units of the baseline's"
            found.append(_relative(f"{of}/mce_relative", words, _over_severities(cells, TEST_CORRUPTIONS)))
    videos = [outcomes.get(("cifar-10-p", name, None, "flips"), {}) for name in MFP_PERTURBATIONS]
    if all(videos):
        words = "CIFAR-10-P: mFR, flip probabilities in units of the baseline's, the authors' ten"
        found.append(_relative("cifar-10-p/mfr10", words, videos))
    return [one for one in found if one]


def corruption_measure(every: Sequence[Measure]) -> Measure | None:
    """The first mean over corruptions: the one that an answer speaks of."""
    return next((measure for measure in every if measure.kind == "corruption"), None)


def corruption_cells(outcomes: Outcomes, of: str) -> Cells:
    """Of one set of corrupted images."""
    return {
        (name, severity): trainings
        for (set_name, name, severity, kind), trainings in outcomes.items()
        if set_name == of and kind == "wrong" and severity
    }


def by_model(trainings: Mapping[Key, np.ndarray]) -> dict[str, np.ndarray]:
    """Model -> its seeds in order, stacked; the baseline first."""
    return {
        model: np.stack([values for (name, _), values in sorted(trainings.items()) if name == model])
        for model in models(name for name, _ in trainings)
    }


def _of_images(outcomes: Outcomes, of: str, kind: str, key: str, title: str) -> Measure | None:
    """Images that nothing was done to."""
    found = outcomes.get((of, "clean", 0, "wrong"))
    return Measure(kind, key, title, by_model(found)) if found else None


def _corruption_means(outcomes: Outcomes, of: str, title: str, kind: str = "corruption") -> list[Measure]:
    cells = corruption_cells(outcomes, of)
    chosen: list[tuple[str, str, Sequence[str]]] = []
    if _has(cells, TEST_CORRUPTIONS):
        chosen.append(("mce15", "mean over the 15 test corruptions", TEST_CORRUPTIONS))
    if _has(cells, CORRUPTIONS):
        chosen.append(("mce19", "mean over all 19 corruptions", CORRUPTIONS))
    if not chosen and cells:
        scored = list(dict.fromkeys(name for name, _ in cells))
        over = "the one corruption scored" if len(scored) == 1 else f"the {len(scored)} corruptions scored"
        chosen.append((f"mean-{len(scored)}", f"mean over {over}", scored))
    return [
        Measure(kind, f"{of}/{key}", f"{title}: error, {over}", by_model(_mean(_over_severities(cells, corruptions))))
        for key, over, corruptions in chosen
    ]


def _in_units_of_alexnet(outcomes: Outcomes) -> Measure | None:
    cells = corruption_cells(outcomes, "imagenet-c")
    if not _has(cells, TEST_CORRUPTIONS):
        return None
    samples = by_model(_stacked(_over_severities(cells, TEST_CORRUPTIONS)))
    alexnet = np.array([ALEXNET_ERRORS[name] for name in TEST_CORRUPTIONS])
    title = "ImageNet-C: mCE, errors on the 15 test corruptions in units of AlexNet's"
    return Measure("relative", "imagenet-c/mce", title, samples, partial(mean_ratio, baseline=alexnet))


def _has(cells: Cells, corruptions: Sequence[str]) -> bool:
    return set(itertools.product(corruptions, SEVERITIES)) <= cells.keys()


def _over_severities(cells: Cells, corruptions: Sequence[str]) -> list[dict[Key, np.ndarray]]:
    """For each corruption, its mean over severities, of the trainings that have them all."""
    return [_mean([trainings for (name, _), trainings in cells.items() if name == wished]) for wished in corruptions]


def _mean(parts: Sequence[Mapping[Key, np.ndarray]]) -> dict[Key, np.ndarray]:
    """Of each training that is in all parts."""
    return {key: values.mean(axis=-1, dtype=np.float64) for key, values in _stacked(parts).items()}


def _stacked(parts: Sequence[Mapping[Key, np.ndarray]]) -> dict[Key, np.ndarray]:
    """(images, parts) of each training that is in all parts."""
    complete = set.intersection(*(set(part) for part in parts))
    return {key: np.stack([part[key] for part in parts], axis=-1) for key in complete}


def _perturbation_means(outcomes: Outcomes, tuned_on: Collection[str]) -> list[Measure]:
    kinds = (
        ("flips", "flips", "mfp", "flip probability"),
        ("top5", "ranking", "top5_distance", "top-5 distance"),
        ("zipf", "ranking", "zipf_distance", "zipf distance"),
    )
    found = []
    for column, kind, key, title in kinds:
        videos = {n: t for (of, n, _, what), t in outcomes.items() if of == "cifar-10-p" and what == column}
        if not videos:
            continue
        official = set(MFP_PERTURBATIONS) <= set(videos)
        over = list(MFP_PERTURBATIONS) if official else list(videos)
        count = len(over)
        wishes = [(over, "the authors' ten perturbations" if official else f"the {count} perturbations scored")]
        rest = [name for name in over if name != "spatter"]
        if "spatter" in tuned_on and "spatter" in over and rest:
            wishes.append((rest, f"{len(rest)} perturbations: without spatter, which the search has looked at"))
        for names, words in wishes:
            number = f"{len(names)}" if official else f"-{len(names)}"
            samples = by_model(_mean([videos[name] for name in names]))
            words = f"CIFAR-10-P: {title}, mean over {words}"
            found.append(Measure(kind, f"cifar-10-p/{key}{number}", words, samples, share=kind == "flips"))
    return found


def _under_attack(outcomes: Outcomes, of: str, title: str) -> Measure | None:
    found = outcomes.get((of, _USUAL_EPSILON, None, "wrong"))
    return Measure("attack", f"{of}/error", f"{title}, ε = 8/255: error", by_model(found)) if found else None


def _calibration(outcomes: Outcomes, key: str, title: str, statistic: Statistic) -> Measure | None:
    wrong = outcomes.get(("clean", "clean", 0, "wrong"), {})
    confidence = outcomes.get(("clean", "clean", 0, "confidence"), {})
    parts = {of: calibration_parts(confidence[of], 1 - wrong[of]) for of in wrong if of in confidence}
    return Measure("calibration", key, f"test images: {title}", by_model(parts), statistic) if parts else None


def _relative(key: str, title: str, parts: Sequence[Mapping[Key, np.ndarray]]) -> Relative | None:
    """parts: one for each corruption, or perturbation."""
    samples = by_model(_stacked(parts))
    if BASELINE not in samples or len(samples) == 1:
        return None
    theirs = samples.pop(BASELINE)
    if (theirs.sum(axis=1) < _LEAST_ERRORS).any():
        return None
    return Relative(key, title, {model: compare_ratio(ours, theirs, mean_ratio) for model, ours in samples.items()})
