"""Train a recipe over some seeds, in this process, score it, and hold it against what was published of it."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ruamel.yaml import YAML

from raycnn import models
from raycnn.data.sources import load
from raycnn.data.split import stratified_split
from raycnn.digest import read_json, write_json
from raycnn.errors import DataError
from raycnn.files import replacing
from raycnn.models.trust import remember, trust
from raycnn.robustness.attacks import epsilon_name
from raycnn.robustness.corruptions import TEST_CORRUPTIONS
from raycnn.robustness.results import Key, Results, Row
from raycnn.robustness.units import score_all, units
from raycnn.spec.recipe import Recipe
from raycnn.training.checkpoint import LAST
from raycnn.training.log import EpochLog, EpochRecord
from raycnn.training.loop import TrainingData, train
from raycnn.training.resident import training_data

SCORE_SEED = 0  # of generated corruptions
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric over the trainings of a recipe. deviation: standard deviation, None of a single training."""

    mean: float
    deviation: float | None
    trainings: int


def train_recipe(
    recipe: Recipe, root: Path | None, run: Path, seeds: int, device: torch.device, say: Say
) -> dict[str, Measured]:
    """Train with the recipe's seed and those that follow it, `seeds` in all, and score them.

    run: gets seed-<s>/ (metrics.jsonl, checkpoint.pt), robustness.parquet. What is there is not done again.
    Returns the metrics by name, as "clean/error". Raises what loading, training and scoring raise.
    """
    trust([recipe.training.model])  # the user has just named it
    models.check(recipe.training.model, recipe.data.side_px)
    data = load(recipe.data, root)
    todo = units(recipe.scoring, recipe.data, root, data, SCORE_SEED)  # what is missing is missed now
    held_out = recipe.data.validation
    count = int(held_out) if held_out >= 1 else held_out
    split = stratified_split(data.train.labels, count, recipe.data.seed, data.class_names)
    _keep(run, recipe, {"digest": data.digest, "split_digest": split.digest})
    remember(run, recipe.training.model)
    resident = training_data(data, split.train, split.validation, None, device)
    trained = {}
    for seed in range(recipe.training.seed, recipe.training.seed + seeds):
        trained[recipe.name, seed] = _train(recipe, seed, resident, run / f"seed-{seed}", device, say)
    results = Results(run)
    score_all(trained, todo, data.open_test(), results, device, say)
    return _measured(results.rows, list(trained))


def comparison(recipe: Recipe, measured: Mapping[str, Measured]) -> list[str]:
    """A table in text: a line for each published figure, then those for which nothing was published."""
    published = {figure.metric: figure for figure in recipe.published}
    rows = [("", "published", "measured", "difference", "source")]
    for metric in [*published, *(name for name in measured if name not in published)]:
        figure, found = published.get(metric), measured.get(metric)
        rows.append(
            (
                metric,
                _figure(figure.value, figure.deviation, figure.trainings) if figure else "",
                _figure(found.mean, found.deviation, found.trainings) if found else "not scored",
                f"{100 * (found.mean - figure.value):+.2f}" if found and figure else "",
                figure.source if figure else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]


def _figure(value: float, deviation: float | None, trainings: int | None) -> str:
    spread = f" ± {100 * deviation:.2f}" if deviation is not None else ""
    return f"{100 * value:.2f} %{spread}" + (f" (n={trainings})" if trainings else "")


def _keep(run: Path, recipe: Recipe, images: dict[str, str]) -> None:
    """run/recipe.yaml, what is trained, resolved, and run/images.json, on what. Raises DataError where that was another
    set of images."""
    known = run / "images.json"
    trained = any(run.glob(f"seed-*/{LAST}"))  # else nothing is lost with what stood there
    if trained and read_json(known, "Remove it, then give the same command again.") not in ({}, images):
        raise DataError(f"{run}: was trained on other images, or split otherwise. Name those again, or another --run.")
    run.mkdir(parents=True, exist_ok=True)
    write_json(known, images)
    with replacing(run / "recipe.yaml") as file:
        YAML().dump(json.loads(recipe.model_dump_json(exclude_none=True)), file)


def _train(
    recipe: Recipe, seed: int, data: TrainingData, directory: Path, device: torch.device, say: Say
) -> torch.nn.Module:
    spec = recipe.training.model_copy(update={"seed": seed})
    log = EpochLog(directory)

    def on_epoch(record: EpochRecord) -> None:
        log.write(record)
        error = record.metrics.get("val/clean_error")
        validation = "" if error is None else f"  validation error {100 * error:.2f} %"
        say(
            f"seed {seed}  epoch {record.epoch}/{spec.epochs}  loss {record.train_loss:.4f}  lr {record.lr:.4g}"
            f"{validation}  {record.train_s + record.evaluate_s:.1f} s"
        )

    return train(spec, data, device, directory=directory, on_epoch=on_epoch, note=say)


_METRICS = ("error", "calibration", "flip_probability")


def _measured(rows: Sequence[Row], models: Sequence[Key]) -> dict[str, Measured]:
    """The mean over names and severities of each set's metric, over `models`; of CIFAR-10-C over the 15 corruptions of
    the benchmark, not the four that its authors reserve for validation, nor the clean images that stand beside it. Of
    an attack, the error at epsilon 8/255."""
    values: dict[str, dict[Key, list[float]]] = {}
    for row in rows:
        if row.key not in models or (row.set == "cifar-10-c" and row.name not in TEST_CORRUPTIONS):
            continue
        if row.set in ("fgsm", "pgd") and row.name != epsilon_name(8 / 255):
            continue
        for metric in _METRICS:
            value = getattr(row, metric)
            if value is not None:
                of_metric = values.setdefault(f"{row.set}/{metric}", {model: [] for model in models})
                of_metric[row.key].append(value)
    found: dict[str, Measured] = {}
    for metric, of_models in values.items():
        means = [statistics.mean(seen) for seen in of_models.values()]
        deviation = statistics.stdev(means) if len(means) > 1 else None
        found[metric] = Measured(statistics.mean(means), deviation, len(means))
    return found
