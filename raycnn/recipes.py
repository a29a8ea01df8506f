"""Train a recipe over some seeds, in this process, and score it."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from ruamel.yaml import YAML

from raycnn import models
from raycnn.data.duplicates import split_duplicates
from raycnn.data.sources import load
from raycnn.data.split import stratified_split
from raycnn.digest import read_json, write_json
from raycnn.errors import DataError
from raycnn.files import replacing
from raycnn.models.trust import remember, trust
from raycnn.robustness.results import Results, read_outcomes
from raycnn.robustness.summary import Measure, measures
from raycnn.robustness.units import score_all, units
from raycnn.spec.recipe import Recipe
from raycnn.training.checkpoint import LAST
from raycnn.training.log import EpochLog, EpochRecord
from raycnn.training.loop import TrainingData, train
from raycnn.training.resident import training_data

SCORE_SEED = 0  # of generated corruptions
Say = Callable[[str], None]


def train_recipe(
    recipe: Recipe, root: Path | None, run: Path, seeds: int, device: torch.device, say: Say
) -> list[Measure]:
    """Train with the recipe's seed and those that follow it, `seeds` in all, and score them.

    run: gets seed-<s>/ (metrics.jsonl, checkpoint.pt), robustness.parquet. What is there is not done again.
    Returns the numbers of these trainings, of one model named as the recipe, on what the recipe is scored on now.
    Raises what loading, training and scoring raise.
    """
    trust([recipe.training.model])  # the user has just named it
    models.check(recipe.training.model, recipe.data.side_px)
    data = load(recipe.data, root)
    todo = units(recipe.scoring, recipe.data, root, data, SCORE_SEED)  # what is missing is missed now
    held_out = recipe.data.validation
    count = int(held_out) if held_out >= 1 else held_out
    split = stratified_split(data.train.labels, count, recipe.data.seed, data.class_names)
    for line in [*data.notes(), *(f"warning: {line}" for line in split_duplicates(data, split))]:
        say(line)
    _keep(run, recipe, {"digest": data.digest, "split_digest": split.digest})
    remember(run, recipe.training.model)
    resident = training_data(data, split.train, split.validation, None, device)
    trained = {}
    for seed in range(recipe.training.seed, recipe.training.seed + seeds):
        trained[recipe.name, seed] = _train(recipe, seed, resident, run / f"seed-{seed}", device, say)
    results = Results(run)
    score_all(trained, todo, data.open_test(), results, device, say)
    asked = {(unit.set, name) for unit in todo for name in unit.rows}
    return measures(
        {
            place: {key: values for key, values in of_place.items() if key in trained}
            for place, of_place in read_outcomes(run).items()
            if place[:2] in asked
        }
    )


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
