"""`raycnn train`: a recipe is trained, scored, resumed, and held against what was published."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from raycnn import recipes
from raycnn.data.sources import load
from raycnn.errors import DataError, SpecError
from raycnn.recipes import Measured, comparison, train_recipe
from raycnn.robustness.corruptions import TEST_CORRUPTIONS
from raycnn.robustness.results import Row
from raycnn.spec.reading import read_recipe
from raycnn.spec.recipe import Recipe
from raycnn.training.checkpoint import load_classifier

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces" / "recipes").glob("*.yaml"))
TEXT = """
name: tiny
data: {name: shapes, validation: 100, train_images: 500, test_images: 150}
training:
  model: fastnet
  epochs: 2
  batch_size: 50
  regularizers: {cutout: {size_px: 8}}
  optimizer: {sgd: {lr: 0.1}}
  seed: 3
scoring: {score: [generated-c], generated: [brightness, contrast], precision: fp32}
published:
  - {metric: clean/error, value: 0.25, deviation: 0.01, trainings: 5, source: a paper}
  - {metric: cifar-10-c/error, value: 0.5, source: another}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def recipe(file: Path) -> Recipe:
    return read_recipe(file)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_valid_and_names_what_was_published(path: Path):
    recipe = read_recipe(path)
    assert recipe.published or path.stem.startswith("fastnet")  # ours
    assert recipe.training.train_on == "all"
    assert recipe.training.regularizers.crop_px == 4


def test_a_mistake_is_named_with_its_line_and_the_nearest_key(file: Path):
    file.write_text(TEXT.replace("size_px: 8", "size: 8"), encoding="utf-8")
    with pytest.raises(
        SpecError, match=r"tiny.yaml:8: training.regularizers.cutout.size: unknown key. Did you mean siz"
    ):
        read_recipe(file)
    file.write_text(TEXT, encoding="utf-8")
    with pytest.raises(SpecError, match=r"--set: training.epochs: "):
        read_recipe(file, ["training.epochs=0"])


def test_every_seed_is_trained_and_scored_and_nothing_twice(recipe: Recipe, tmp_path: Path):
    said: list[str] = []
    run = tmp_path / "run"
    measured = train_recipe(recipe, None, run, 2, torch.device("cpu"), said.append)
    data = load(recipe.data)
    errors = []
    for seed in (3, 4):
        model = load_classifier(run / f"seed-{seed}" / "checkpoint.pt")
        with torch.no_grad():
            answers = model(torch.from_numpy(np.array(data.open_test().images)).permute(0, 3, 1, 2)).argmax(1).numpy()
        errors.append(float((answers != data.open_test().labels).mean()))
    assert measured["clean/error"].mean == pytest.approx(np.mean(errors))
    assert measured["clean/error"].deviation == pytest.approx(np.std(errors, ddof=1))
    assert measured["clean/error"].trainings == 2
    assert measured["generated-c/error"].mean > 0
    assert [line for line in said if line.startswith("scored")][-1] == "scored 3/3  generated-c contrast"
    logs = [(run / f"seed-{seed}" / "metrics.jsonl").read_text() for seed in (3, 4)]
    assert [json.loads(line)["epoch"] for line in logs[0].splitlines()] == [1, 2]
    said.clear()
    assert train_recipe(recipe, None, run, 2, torch.device("cpu"), said.append) == measured
    assert not [line for line in said if line.startswith("scored") or "epoch 1/" in line]
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"seed": 1})})
    with pytest.raises(DataError, match="was trained on other images"):
        train_recipe(other, None, run, 2, torch.device("cpu"), said.append)


def test_published_figures_stand_beside_the_measured_ones(recipe: Recipe):
    lines = comparison(recipe, {"clean/error": Measured(0.2, 0.02, 3), "clean/calibration": Measured(0.1, None, 1)})
    assert [" ".join(line.split()) for line in lines] == [
        "published measured difference source",
        "clean/error 25.00 % ± 1.00 (n=5) 20.00 % ± 2.00 (n=3) -5.00 a paper",
        "cifar-10-c/error 50.00 % not scored another",
        "clean/calibration 10.00 % (n=1)",
    ]


def test_the_error_on_cifar_10_c_is_over_the_15_corruptions_of_the_benchmark():
    def row(name: str, errors: int, seed: int) -> Row:
        return Row("m", seed, "cifar-10-c", name, 1, 10, errors)

    rows = [row(name, 2 + seed, seed) for name in TEST_CORRUPTIONS for seed in (0, 1)]
    rows += [row(name, 9, seed) for name in ("clean", "saturate") for seed in (0, 1)]
    rows += [row("fog", 9, seed=2)]  # of a training that is not asked for
    found = recipes._measured(rows, [("m", 0), ("m", 1)])["cifar-10-c/error"]
    assert (found.mean, found.trainings) == (pytest.approx(0.25), 2)
    assert found.deviation == pytest.approx(0.1 / 2**0.5)


def command(file: Path, *arguments: str) -> list[str]:
    run = str(file.parent / "run")
    return [sys.executable, "-m", "raycnn", "train", str(file), "--run", run, "--device", "cpu", *arguments]


def test_the_command_prints_the_comparison(file: Path):
    done = subprocess.run(command(file), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed 3  epoch 1/2  loss ")
    assert [line.split()[0] for line in lines if "/error" in line] == [
        "clean/error",
        "cifar-10-c/error",
        "generated-c/error",
    ]
    assert done.stderr == ""


def test_an_interrupted_command_says_how_to_go_on_and_does(file: Path):
    line = [*command(file, "--set", "training.epochs=500")]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's background jobs find it
    activated = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=activated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.splitlines()[-1].strip() == " ".join(["python", *line[1:]])


def test_a_device_that_is_not_there_is_refused_in_one_line(file: Path):
    done = subprocess.run([*command(file)[:-1], "tpu"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "raycnn: --device tpu: is not known. Choose auto, cpu or cuda.\n"
