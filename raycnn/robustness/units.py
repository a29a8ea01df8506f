"""What is scored, and how: a unit is one pass over some images, for all models at once.

Here, and nowhere else, the test images and the benchmark's files are opened.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import nn

from raycnn.data.sources import DataSet
from raycnn.errors import DataError, SpecError
from raycnn.robustness import attacks, evaluate
from raycnn.robustness.archives import CorruptionFile, PerturbationFile, open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.robustness.evaluate import Row
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring


@dataclass(frozen=True, slots=True)
class Unit:
    """One pass over some images. `set` and `name` as in robustness.parquet; n: images or videos; seed: of generated
    corruptions."""

    set: str
    name: str
    n: int
    file: CorruptionFile | PerturbationFile | None = None
    seed: int = 0


def benchmark_directories(scoring: Scoring, data: DataSpec, root: Path | None) -> dict[str, Path]:
    """The directories of the benchmark sets that are wished, by score. Raises SpecError, DataError."""
    home = root or data.root or platformdirs.user_cache_path("raycnn")
    found: dict[str, Path] = {}
    wishes = {"cifar10-c": (scoring.cifar10_c, "CIFAR-10-C"), "cifar10-p": (scoring.cifar10_p, "CIFAR-10-P")}
    for score, (given, usual) in wishes.items():
        if score not in scoring.score:
            continue
        if data.name != "cifar10":
            raise SpecError(f"score: {score} belongs to cifar10, the data are {data.name}. Write generated-c.")
        directory = given or home / usual
        if not directory.is_dir():
            raise DataError(
                f"{directory}: no such directory, and {score} is to be scored. Put the set there, name its place "
                f"({score.replace('-', '_')}: DIR), or take {score} out of score."
            )
        (open_corruptions if score == "cifar10-c" else open_perturbations)(directory)
        found[score] = directory
    for name in scoring.generated or ():
        if name not in CORRUPTIONS:
            raise SpecError(f"generated: {name} is no corruption. Choose from {', '.join(CORRUPTIONS)}.")
    return found


def units(scoring: Scoring, spec: DataSpec, root: Path | None, data: DataSet, seed: int) -> Iterator[Unit]:
    """All that `scoring` asks for. seed: of generated corruptions."""
    directories = benchmark_directories(scoring, spec, root)
    labels = data.test.labels
    yield Unit("clean", "clean", len(labels))
    if directory := directories.get("cifar10-c"):
        archive = open_corruptions(directory, labels)
        yield Unit("cifar-10-c", "clean", archive.n)
        yield from (Unit("cifar-10-c", file.name, file.n, file) for file in archive.files)
    if directory := directories.get("cifar10-p"):
        archive = open_perturbations(directory, labels)
        yield from (Unit("cifar-10-p", file.name, file.n, file) for file in archive.files)
    if "generated-c" in scoring.score:
        names = scoring.generated or TEST_CORRUPTIONS
        yield from (Unit("generated-c", name, len(labels), None, seed) for name in names)
    if "fgsm" in scoring.score:
        yield Unit("fgsm", "eps=0.0000", len(labels))


def score_unit(
    models: Mapping[tuple[str, int], nn.Module], unit: Unit, data: DataSet, device: torch.device
) -> list[Row]:
    """Changes `models`, by name and seed: they are moved to the device, in eval mode. Their rows of this unit."""
    images, labels = data.test.images[: unit.n], data.test.labels[: unit.n]
    match unit.set:
        case "cifar-10-c" if isinstance(unit.file, CorruptionFile):
            return evaluate.score_corruption(models, unit.file, labels, device)
        case "cifar-10-p" if isinstance(unit.file, PerturbationFile):
            return evaluate.score_perturbation(models, unit.file, device)
        case "generated-c":
            return evaluate.score_generated(models, np.array(images), labels, unit.name, unit.seed, device)
        case "fgsm":
            return attacks.score_fgsm(models, images, labels, device)
        case _:
            return evaluate.score_clean(models, images, labels, device, unit.set)
