"""What is scored, and how: a unit is one pass over some images, for all models at once.

Here, and by `raycnn corrupt`, which copies them, the test images and the benchmark's files are opened; nowhere else.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from raycnn.data.cifar import OFFICIAL
from raycnn.data.dataset import DataSet, ImageSet, test_files
from raycnn.data.folder import TEST_FOLDERS
from raycnn.data.sources import user_cache
from raycnn.errors import DataError, SpecError
from raycnn.invocation import command
from raycnn.robustness import adaptation, attacks, evaluate
from raycnn.robustness.archives import CorruptionFile, PerturbationFile, open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, TEST_CORRUPTIONS
from raycnn.robustness.fingerprints import of_images, of_weights
from raycnn.robustness.imagenet_c import PictureFolders, open_imagenet_c
from raycnn.robustness.order import refuse_other_order
from raycnn.robustness.origin import origin
from raycnn.robustness.results import Key, Results, Scored, epsilon_name
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Score, Scoring
from raycnn.training.precision import exact_fp32, resolve_precision

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
    file: CorruptionFile | PerturbationFile | PictureFolders | None = None
    seed: int = 0
    epsilons: tuple[float, ...] = ()
    steps: int = 0
    side_px: int = 0  # of pictures
    precision: str = "fp32"

    @property
    def images(self) -> int:
        """Passes of single images through a network, roughly: what its time goes by."""
        match self.file:
            case PerturbationFile():
                return self.n * self.file.frames
            case None if self.set != "generated-c":
                return self.n * max(1, (1 + 2 * self.steps) * len(self.epsilons))
            case _:
                return self.n * len(SEVERITIES)

    @property
    def exact(self) -> bool:
        """Whether it is computed in fp32, whatever is wished."""
        return isinstance(self.file, PerturbationFile) or bool(self.epsilons)

    def takes(self, precision: str) -> bool:
        """Whether rows that were computed so are what is wished; `auto` leaves it to the hardware, so takes any."""
        return precision == "fp32" if self.exact else self.precision in ("auto", precision)


@dataclass(frozen=True, slots=True)
class _Benchmark:
    """A set of files: the data that it belongs to, its usual folder, and the name of its rows."""

    data: str
    folder: str
    set: str
    check: Callable[[Path], object]


_BENCHMARKS: dict[Score, _Benchmark] = {
    "cifar10-c": _Benchmark("cifar10", "CIFAR-10-C", "cifar-10-c", open_corruptions),
    "cifar10-p": _Benchmark("cifar10", "CIFAR-10-P", "cifar-10-p", open_perturbations),
    "cifar100-c": _Benchmark("cifar100", "CIFAR-100-C", "cifar-100-c", open_corruptions),
    "imagenet-c": _Benchmark("folder", "ImageNet-C", "imagenet-c", open_imagenet_c),
}


def benchmark_directories(scoring: Scoring, data: DataSpec, root: Path | None) -> dict[Score, Path]:
    """The directories of the benchmark sets that are wished, by score.

    Raises SpecError; DataError with a line for each that is missing.
    """
    home = root or data.root or user_cache()
    given = _given(scoring)
    found: dict[Score, Path] = {}
    missing: list[str] = []
    for score, benchmark in _BENCHMARKS.items():
        if score not in scoring.score:
            continue
        if data.name != benchmark.data:
            raise SpecError(f"score: {score} belongs to {benchmark.data}, the data are {data.name}. Write generated-c.")
        directory = given[score] or home / benchmark.folder
        if not directory.is_dir():
            get = "" if score == "imagenet-c" else f"Get it ({command('fetch', score)}), name"
            missing.append(
                f"{directory}: no such directory, and {score} is to be scored. {get or 'Name'} its place "
                f"({score.replace('-', '_')}: DIR), or take {score} out of score."
            )
            continue
        benchmark.check(directory)
        found[score] = directory
    if missing:
        raise DataError("\n".join(missing))
    for name in scoring.generated or ():
        if name not in CORRUPTIONS:
            raise SpecError(f"generated: {name} is no corruption. Choose from {', '.join(CORRUPTIONS)}.")
    if scoring.batch_norm_adapted and not {"cifar10-c", "cifar100-c"} & found.keys():
        raise SpecError(
            "batch_norm_adapted: is for cifar10-c and cifar100-c. Add one of them to score, or leave it out."
        )
    return found


def origins(scoring: Scoring, data: DataSpec, root: Path | None) -> dict[str, str]:
    """By set, as in robustness.parquet, where the files of the benchmarks that are wished come from, by `origin`."""
    directories = benchmark_directories(scoring, data, root)
    return {_BENCHMARKS[score].set: origin(directory) for score, directory in directories.items()}


def beside_data(scoring: Scoring) -> list[str]:
    """The directories of wished benchmark sets that are looked for beside the data set."""
    given = _given(scoring)
    return [of.folder for score, of in _BENCHMARKS.items() if score in scoring.score and not given[score]]


def _given(scoring: Scoring) -> dict[Score, Path | None]:
    return {
        "cifar10-c": scoring.cifar10_c,
        "cifar10-p": scoring.cifar10_p,
        "cifar100-c": scoring.cifar100_c,
        "imagenet-c": scoring.imagenet_c,
    }


def test_paths(scoring: Scoring, spec: DataSpec, root: Path | None, data: DataSet) -> tuple[Path, ...]:
    """Where test images are, whether there are any or not: those of the data set, as they came and as they are kept,
    and the benchmark's files in their usual and their given places."""
    home = root or spec.root or user_cache()
    paths = [*test_files(data.directory), *(home / benchmark.folder for benchmark in _BENCHMARKS.values())]
    paths += [path for path in _given(scoring).values() if path]
    if spec.name == "folder":
        folders = [home / name for name in TEST_FOLDERS]
        paths += [*folders, *(path for folder in folders for path in folder.glob("*") if path.is_symlink())]
    elif official := OFFICIAL.get(spec.name):
        paths += [folder / file for folder in (home, home / official.folder) for file in official.test]
    return tuple(path.absolute() for path in paths)


def units(scoring: Scoring, spec: DataSpec, root: Path | None, data: DataSet, seed: int) -> list[Unit]:
    """All that `scoring` asks for. seed: of generated corruptions and of attacks."""
    test = data.open_test()
    labels = np.asarray(test.labels)
    found = list(_units(scoring, spec, root, len(labels), labels, data.class_names, data.train.images.shape[1], seed))
    for file in dict.fromkeys(unit.file for unit in found if isinstance(unit.file, CorruptionFile)):
        refuse_other_order(file, test.images)
    return [replace(unit, precision=scoring.precision) for unit in found]


def planned_units(scoring: Scoring, spec: DataSpec, root: Path | None, test_count: int) -> list[Unit]:
    """As `units`, where only the number of test images is known: labels are not compared."""
    return list(_units(scoring, spec, root, test_count, None, None, spec.side_px, 0))


def _units(
    scoring: Scoring,
    spec: DataSpec,
    root: Path | None,
    count: int,
    labels: np.ndarray | None,
    class_names: Sequence[str] | None,
    side_px: int,
    seed: int,
) -> Iterator[Unit]:
    """count, labels: of the test images. labels, class_names: None: not compared with those of the benchmark."""
    directories = benchmark_directories(scoring, spec, root)
    yield Unit("clean", "clean", count, ("clean",))
    for score, directory in directories.items():
        of = _BENCHMARKS[score].set
        match score:
            case "cifar10-p":
                files = open_perturbations(directory, labels).files
            case "imagenet-c":
                files = open_imagenet_c(directory, class_names).files
            case _:
                archive = open_corruptions(directory, labels)
                files = archive.files
                yield Unit(of, "clean", archive.n, ("clean",))
        yield from (Unit(of, file.name, file.n, (file.name,), file, side_px=side_px) for file in files)
        if scoring.batch_norm_adapted:
            some = (file for file in files if isinstance(file, CorruptionFile))
            yield from (Unit(of + ADAPTED, file.name, file.n, (file.name,), file) for file in some)
    if "generated-c" in scoring.score:
        for name in scoring.generated or TEST_CORRUPTIONS:
            yield Unit("generated-c", name, count, (name,), seed=seed)
    epsilons = tuple(scoring.epsilons)
    names = tuple(epsilon_name(epsilon) for epsilon in epsilons)
    if "fgsm" in scoring.score:
        yield Unit("fgsm", "fgsm", count, names, epsilons=epsilons)
    if "pgd" in scoring.score:
        steps, n = scoring.pgd_steps, min(count, scoring.pgd_images)
        yield Unit("pgd", f"pgd-{steps}", n, names, seed=seed, epsilons=epsilons, steps=steps)


def score_all(
    models: Mapping[Key, nn.Module],
    todo: Sequence[Unit],
    test: ImageSet,
    results: Results,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Changes `models` and `results`. Score in this process what `results` does not hold yet."""
    weights = {key: of_weights(model) for key, model in models.items()}
    missing = unscored(todo, test, weights, results, say)
    progress = Progress([unit.images * len(keys) for unit, keys in missing], say)
    for unit, keys in missing:
        results.add(unit, score_unit({key: models[key] for key in keys}, weights, unit, test, device))
        progress.done(unit, unit.images * len(keys))
    results.save()


def unscored(
    todo: Sequence[Unit], test: ImageSet, weights: Mapping[Key, str], results: Results, say: Callable[[str], None]
) -> list[tuple[Unit, list[Key]]]:
    """Changes `results`: scores of other images, and of other weights, are dropped. What is left to do, by unit.

    weights: by `of_weights`, of all models.
    """
    images = [of_images(unit, test) for unit in todo]
    by_set: dict[str, set[str]] = {}
    for unit, fingerprint in zip(todo, images, strict=True):
        by_set.setdefault(unit.set, set()).add(fingerprint)
    if dropped := results.drop_stale(by_set, weights):
        why = "of other images, other weights, or an earlier version of raycnn; or their outcomes are lost or damaged"
        say(f"dropped {dropped} earlier scores: {why}")
    missing = [results.missing(unit, of, weights) for unit, of in zip(todo, images, strict=True)]
    return [(unit, keys) for unit, keys in zip(todo, missing, strict=True) if keys]


class Progress:
    """Says how far a scoring is, and for how long it will go on."""

    def __init__(self, weights: Sequence[int], say: Callable[[str], None]) -> None:
        self._count, self._total, self._say = len(weights), sum(weights), say
        self._scored = self._weight = 0
        self._began = time.monotonic()

    def done(self, unit: Unit, weight: int) -> None:
        self._scored += 1
        self._weight += weight
        left_s = (time.monotonic() - self._began) * (self._total / self._weight - 1)
        words = f", about {left_s / 60:.0f} min left" if left_s >= 60 else ""
        self._say(f"scored {self._scored}/{self._count}  {unit.set} {unit.name}{words}")


def score_unit(
    models: Mapping[Key, nn.Module], weights: Mapping[Key, str], unit: Unit, test: ImageSet, device: torch.device
) -> list[Scored]:
    """Changes `models`, by name and seed: they are moved to the device, in eval mode. Their scores on this unit.

    weights: by `of_weights`, of these models at least.
    """
    facts = {
        "images": of_images(unit, test),
        "precision": "fp32" if unit.exact else resolve_precision(unit.precision, device),
    }
    with exact_fp32():  # beside it, bf16 is what autocast makes of it
        scored = _score_unit(models, unit, test, device, facts["precision"])
    return [replace(one, row=replace(one.row, weights=weights[one.row.key], **facts)) for one in scored]


def _score_unit(
    models: Mapping[Key, nn.Module], unit: Unit, test: ImageSet, device: torch.device, precision: str
) -> list[Scored]:
    images, labels = test.images[: unit.n], np.asarray(test.labels[: unit.n])
    if isinstance(unit.file, PerturbationFile):
        return evaluate.score_perturbation(models, unit.file, device)
    if isinstance(unit.file, PictureFolders):
        return evaluate.score_pictures(models, unit.file, unit.side_px, device, precision)
    if isinstance(unit.file, CorruptionFile):
        score = adaptation.score_adapted if unit.set.endswith(ADAPTED) else evaluate.score_corruption
        return score(models, unit.file, labels, device, unit.set, precision)
    match unit.set:
        case "generated-c":
            changed = np.array(images)
            return evaluate.score_generated(models, changed, labels, unit.name, unit.seed, device, precision)
        case "fgsm":
            return attacks.score_fgsm(models, images, labels, device, unit.epsilons)
        case "pgd":
            return attacks.score_pgd(models, images, labels, device, unit.epsilons, unit.steps, unit.seed)
        case _:
            return evaluate.score_clean(models, images, labels, device, unit.set, precision)
