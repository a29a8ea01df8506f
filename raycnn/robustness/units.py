"""What is scored, and how: a unit is one pass over some images, for all models at once.

Here, and nowhere else, the test images and the benchmark's files are opened.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import nn

from raycnn.data.cifar import OFFICIAL
from raycnn.data.dataset import DataSet, ImageSet, test_files
from raycnn.errors import DataError, SpecError
from raycnn.robustness import adaptation, attacks, evaluate
from raycnn.robustness.archives import (
    CorruptionArchive,
    CorruptionFile,
    PerturbationArchive,
    PerturbationFile,
    open_corruptions,
    open_perturbations,
)
from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.robustness.results import Key, Scored
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Score, Scoring

ADAPTED = "-adapted"
"""Ends the name of a set whose scores are of networks with adapted batch norm."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One pass over some images. set: as in robustness.parquet; name: of the unit; n: images or videos.

    rows: the names that its rows will have. seed: of generated corruptions and of an attack's start.
    """

    set: str
    name: str
    n: int
    rows: tuple[str, ...]
    file: CorruptionFile | PerturbationFile | None = None
    seed: int = 0
    epsilons: tuple[float, ...] = ()
    steps: int = 0


@dataclass(frozen=True, slots=True)
class _Benchmark:
    """A set of files: the data that it belongs to, its usual folder, and the name of its rows."""

    data: str
    folder: str
    set: str
    open: Callable[[Path, np.ndarray | None], CorruptionArchive | PerturbationArchive]


_BENCHMARKS: dict[Score, _Benchmark] = {
    "cifar10-c": _Benchmark("cifar10", "CIFAR-10-C", "cifar-10-c", open_corruptions),
    "cifar10-p": _Benchmark("cifar10", "CIFAR-10-P", "cifar-10-p", open_perturbations),
    "cifar100-c": _Benchmark("cifar100", "CIFAR-100-C", "cifar-100-c", open_corruptions),
}


def benchmark_directories(scoring: Scoring, data: DataSpec, root: Path | None) -> dict[Score, Path]:
    """The directories of the benchmark sets that are wished, by score. Raises SpecError, DataError."""
    home = root or data.root or platformdirs.user_cache_path("raycnn")
    given = {"cifar10-c": scoring.cifar10_c, "cifar10-p": scoring.cifar10_p, "cifar100-c": scoring.cifar100_c}
    found: dict[Score, Path] = {}
    for score, benchmark in _BENCHMARKS.items():
        if score not in scoring.score:
            continue
        if data.name != benchmark.data:
            raise SpecError(f"score: {score} belongs to {benchmark.data}, the data are {data.name}. Write generated-c.")
        directory = given[score] or home / benchmark.folder
        if not directory.is_dir():
            raise DataError(
                f"{directory}: no such directory, and {score} is to be scored. Get it (raycnn fetch {score}), name its "
                f"place ({score.replace('-', '_')}: DIR), or take {score} out of score."
            )
        benchmark.open(directory, None)
        found[score] = directory
    for name in scoring.generated or ():
        if name not in CORRUPTIONS:
            raise SpecError(f"generated: {name} is no corruption. Choose from {', '.join(CORRUPTIONS)}.")
    return found


def test_paths(scoring: Scoring, spec: DataSpec, root: Path | None, data: DataSet) -> tuple[Path, ...]:
    """Where test images are, whether there are any or not: those of the data set, as they came and as they are kept,
    and the benchmark's files in their usual and their given places."""
    home = root or spec.root or platformdirs.user_cache_path("raycnn")
    paths = [*test_files(data.directory), *(home / benchmark.folder for benchmark in _BENCHMARKS.values())]
    paths += [path for path in (scoring.cifar10_c, scoring.cifar10_p, scoring.cifar100_c) if path]
    if spec.name == "folder":
        paths.append(home / "test")
    elif official := OFFICIAL.get(spec.name):
        paths += [folder / file for folder in (home, home / official.folder) for file in official.test]
    return tuple(path.absolute() for path in paths)


def units(scoring: Scoring, spec: DataSpec, root: Path | None, labels: np.ndarray, seed: int) -> Iterator[Unit]:
    """All that `scoring` asks for. labels: of the test images. seed: of generated corruptions and of attacks."""
    directories = benchmark_directories(scoring, spec, root)
    count = len(labels)
    yield Unit("clean", "clean", count, ("clean",))
    for score, directory in directories.items():
        of = _BENCHMARKS[score]
        archive = of.open(directory, labels)
        if isinstance(archive, CorruptionArchive):
            yield Unit(of.set, "clean", archive.n, ("clean",))
        yield from (Unit(of.set, file.name, file.n, (file.name,), file) for file in archive.files)
        if isinstance(archive, CorruptionArchive) and scoring.batch_norm_adapted:
            yield from (Unit(of.set + ADAPTED, file.name, file.n, (file.name,), file) for file in archive.files)
    if "generated-c" in scoring.score:
        for name in scoring.generated or TEST_CORRUPTIONS:
            yield Unit("generated-c", name, count, (name,), seed=seed)
    epsilons = tuple(scoring.epsilons)
    names = tuple(attacks.epsilon_name(epsilon) for epsilon in epsilons)
    if "fgsm" in scoring.score:
        yield Unit("fgsm", "fgsm", count, names, epsilons=epsilons)
    if "pgd" in scoring.score:
        steps, n = scoring.pgd_steps, min(count, scoring.pgd_images)
        yield Unit("pgd", f"pgd-{steps}", n, names, seed=seed, epsilons=epsilons, steps=steps)


def score_unit(models: Mapping[Key, nn.Module], unit: Unit, test: ImageSet, device: torch.device) -> list[Scored]:
    """Changes `models`, by name and seed: they are moved to the device, in eval mode. Their scores on this unit."""
    images, labels = test.images[: unit.n], np.asarray(test.labels[: unit.n])
    if isinstance(unit.file, PerturbationFile):
        return evaluate.score_perturbation(models, unit.file, device)
    if isinstance(unit.file, CorruptionFile):
        score = adaptation.score_adapted if unit.set.endswith(ADAPTED) else evaluate.score_corruption
        return score(models, unit.file, labels, device, unit.set)
    match unit.set:
        case "generated-c":
            return evaluate.score_generated(models, np.array(images), labels, unit.name, unit.seed, device)
        case "fgsm":
            return attacks.score_fgsm(models, images, labels, device, unit.epsilons)
        case "pgd":
            return attacks.score_pgd(models, images, labels, device, unit.epsilons, unit.steps, unit.seed)
        case _:
            return evaluate.score_clean(models, images, labels, device, unit.set)
