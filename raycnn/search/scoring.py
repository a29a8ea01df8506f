"""Scoring: every finalist and seed on every set, each file read once for all of them, spread over the cluster.

Here, and nowhere else, the test images and the benchmark's files are opened. A set that robustness.parquet already
holds for a model is not scored again, so a killed scoring goes on.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
import ray

from raycnn.data.sources import DataSet, load, open_cached
from raycnn.errors import DataError, SpecError
from raycnn.robustness.archives import CorruptionFile, PerturbationFile, open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, TEST_CORRUPTIONS
from raycnn.search.study import derived_seed
from raycnn.spec.reading import read_search
from raycnn.spec.search import Finals, SearchSpec

RESULTS = "robustness.parquet"
SAVE_S = 10.0  # least seconds between two writes of the results


@dataclass(frozen=True, slots=True)
class Unit:
    """One pass over some images. `set` and `name` as in robustness.parquet; n: images or videos."""

    set: str
    name: str
    n: int
    file: CorruptionFile | PerturbationFile | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A trained final."""

    name: str
    seed: int
    checkpoint: Path


def benchmark_directories(spec: SearchSpec, root: Path | None) -> dict[str, Path]:
    """The directories of the benchmark sets that the search wishes, by score. Raises SpecError, DataError."""
    finals = spec.finals
    assert isinstance(finals, Finals)
    home = root or spec.data.root or platformdirs.user_cache_path("raycnn")
    found: dict[str, Path] = {}
    wishes = {"cifar10-c": (finals.cifar10_c, "CIFAR-10-C"), "cifar10-p": (finals.cifar10_p, "CIFAR-10-P")}
    for score, (given, usual) in wishes.items():
        if score not in finals.score:
            continue
        if spec.data.name != "cifar10":
            raise SpecError(
                f"finals.score: {score} belongs to cifar10, the data are {spec.data.name}. Write generated-c."
            )
        directory = given or home / usual
        if not directory.is_dir():
            raise DataError(
                f"{directory}: no such directory, and finals.score names {score}. Put the set there, give its place "
                f"with --set finals.{score.replace('-', '_')}=DIR, or leave it out: --set 'finals.score=[generated-c]'."
            )
        (open_corruptions if score == "cifar10-c" else open_perturbations)(directory)
        found[score] = directory
    for name in finals.generated or ():
        if name not in CORRUPTIONS:
            raise SpecError(f"finals.generated: {name} is no corruption. Choose from {', '.join(CORRUPTIONS)}.")
    return found


def score_run(run: Path, root: Path | None, say: Callable[[str], None]) -> Path:
    """Score the finals of a run on the Ray cluster that is connected; returns the path of robustness.parquet."""
    spec = read_search(run / "spec.yaml")
    data = load(spec.data, root)
    models = _models(run)
    results = _Results(run / RESULTS)
    todo = [(unit, missing) for unit in _units(spec, root, data) if (missing := results.missing(unit, models))]
    if not todo:
        say("everything is scored already")
        return results.path
    say(f"scoring {len(models)} trainings on {len(todo)} sets")
    nodes = ray.nodes()
    source: Any = ray.put(data) if len(nodes) > 1 else data.directory
    for done, (unit, rows) in enumerate(_spread(todo, source), start=1):
        results.add(rows)
        say(f"scored {done}/{len(todo)}  {unit.set} {unit.name}")
    results.save()
    return results.path


def _models(run: Path) -> list[Model]:
    rows = json.loads((run / "finals" / "finalists.json").read_text())
    return [Model(row["model"], row["seed"], run / row["directory"] / "checkpoint.pt") for row in rows]


def _units(spec: SearchSpec, root: Path | None, data: DataSet) -> Iterator[Unit]:
    finals = spec.finals
    if not isinstance(finals, Finals):
        raise SpecError("finals: are off in this search. Run it again with finals, then score.")
    directories = benchmark_directories(spec, root)
    labels = data.test.labels
    yield Unit("clean", "clean", len(labels))
    if directory := directories.get("cifar10-c"):
        archive = open_corruptions(directory, labels)
        yield Unit("cifar-10-c", "clean", archive.n)
        yield from (Unit("cifar-10-c", file.name, file.n, file) for file in archive.files)
    if directory := directories.get("cifar10-p"):
        archive = open_perturbations(directory, labels)
        yield from (Unit("cifar-10-p", file.name, file.n, file) for file in archive.files)
    if "generated-c" in finals.score:
        seed = derived_seed(spec.search.seed, "test corruptions")
        yield from (Unit("generated-c", name, len(labels), None, seed) for name in finals.generated or TEST_CORRUPTIONS)
    if "fgsm" in finals.score:
        yield Unit("fgsm", "eps=0.0000", len(labels))


def _spread(todo: list[tuple[Unit, list[Model]]], source: Any) -> Iterator[tuple[Unit, list[dict[str, Any]]]]:
    """Results as they come. An actor per GPU, or per four CPUs; each holds all models, and takes unit after unit."""
    free = ray.cluster_resources()
    gpus, cpus = free.get("GPU", 0), free.get("CPU", 1)
    share: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1} if gpus >= 1 else {"num_cpus": min(4, max(1, int(cpus)))}
    count = int(gpus) if gpus >= 1 else max(1, int(cpus // share["num_cpus"]))
    actor: Any = ray.remote(**share)(_Scorer)
    scorers = [
        actor.options(name=f"scorer-{index}").remote(source, share["num_cpus"])
        for index in range(min(count, len(todo)))
    ]
    waiting, running = list(reversed(todo)), {}
    for scorer in scorers:
        unit, models = waiting.pop()
        running[scorer.score.remote(unit, models)] = (scorer, unit)
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        scorer, unit = running.pop(ready)
        rows = ray.get(ready)
        if waiting:
            following, models = waiting.pop()
            running[scorer.score.remote(following, models)] = (scorer, following)
        yield unit, rows


class _Scorer:
    """Holds the test images and the models that it has needed so far."""

    def __init__(self, source: Any, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._data: DataSet = open_cached(source) if isinstance(source, Path) else source
        self._loaded: dict[Model, Any] = {}

    def score(self, unit: Unit, models: list[Model]) -> list[dict[str, Any]]:
        from raycnn.robustness import attacks, evaluate
        from raycnn.training.checkpoint import load_classifier

        for model in models:
            if model not in self._loaded:
                self._loaded[model] = load_classifier(model.checkpoint, self._device)
        keyed = {(model.name, model.seed): self._loaded[model] for model in models}
        images, labels = self._data.test.images[: unit.n], self._data.test.labels[: unit.n]
        match unit.set:
            case "cifar-10-c" if isinstance(unit.file, CorruptionFile):
                rows = evaluate.score_corruption(keyed, unit.file, labels, self._device)
            case "cifar-10-p" if isinstance(unit.file, PerturbationFile):
                rows = evaluate.score_perturbation(keyed, unit.file, self._device)
            case "generated-c":
                rows = evaluate.score_generated(keyed, np.array(images), labels, unit.name, unit.seed, self._device)
            case "fgsm":
                rows = attacks.score_fgsm(keyed, images, labels, self._device)
            case _:
                rows = evaluate.score_clean(keyed, images, labels, self._device, unit.set)
        return [dataclasses.asdict(row) for row in rows]


class _Results:
    """robustness.parquet, held in memory and written now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = pd.read_parquet(path).to_dict("records") if path.exists() else []
        self._saved = time.monotonic()

    def missing(self, unit: Unit, models: list[Model]) -> list[Model]:
        """The models that this unit has no row of."""
        known = {
            (row["model"], row["seed"])
            for row in self._rows
            if (row["set"], row["name"], row["n"]) == (unit.set, unit.name, unit.n)
        }
        return [model for model in models if (model.name, model.seed) not in known]

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        if time.monotonic() - self._saved > SAVE_S:
            self.save()

    def save(self) -> None:
        table = pd.DataFrame(self._rows).astype({"severity": "Int64", "errors": "Int64", "seed": "int64", "n": "int64"})
        temporary = self.path.with_suffix(".tmp")
        table.to_parquet(temporary)
        temporary.replace(self.path)
        self._saved = time.monotonic()
