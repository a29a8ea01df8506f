"""`raycnn train`: a recipe is trained, scored and resumed."""

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

from raycnn.data.sources import load
from raycnn.errors import DataError, SpecError
from raycnn.recipes import train_recipe
from raycnn.reporting.comparison import compare_runs
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
  - metric: clean/error
    value: 0.25
    source: a paper
    of:
      data: {name: shapes, validation: 100, train_images: 500, test_images: 150}
      training:
        model: fastnet
        epochs: 2
        batch_size: 50
        regularizers: {cutout: {size_px: 8}}
        optimizer: {sgd: {lr: 0.1}}
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
    for figure in recipe.published:
        assert figure.of is not None
        assert (figure.of.data, figure.of.training) == (recipe.data, recipe.training), "or it stands beside nothing"
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


def test_a_set_value_changes_no_other_place_of_an_aliased_mapping(file: Path):
    training = "{model: fastnet, epochs: 2, batch_size: 50, optimizer: {sgd: {lr: 0.1}}}"
    figure = "{metric: clean/error, value: 0.25, source: a paper, of: {data: *d, training: *t}}"
    file.write_text(
        f"name: tiny\ndata: &d {{name: shapes}}\ntraining: &t {training}\npublished: [{figure}]\n", encoding="utf-8"
    )
    recipe = read_recipe(file, ["training.optimizer.sgd.lr=0.2", "training.epochs=1"])
    assert (recipe.training.epochs, recipe.training.optimizer.chosen.lr) == (1, 0.2)
    of = recipe.published[0].of
    assert of is not None
    assert (of.training.epochs, of.training.optimizer.chosen.lr) == (2, 0.1), "what the figure is of"
    file.write_text(file.read_text(encoding="utf-8").replace("fastnet", "fastnot"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"tiny.yaml:3: training.model: must be a model"):
        read_recipe(file, ["training.epochs=1"])


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
    found = {measure.key: measure.estimate("tiny") for measure in measured}
    assert list(found) == ["clean/error", "generated-c/mean-2", "clean/ece", "clean/rms_calibration"]
    assert found["clean/error"].value == pytest.approx(np.mean(errors))
    assert found["clean/error"].deviation == pytest.approx(np.std(errors, ddof=1))
    assert found["clean/error"].seeds == 2
    assert found["generated-c/mean-2"].value > 0
    assert found == {measure.key: measure.estimate("tiny") for measure in compare_runs([run]).measures}
    assert [line for line in said if line.startswith("scored")][-1] == "scored 3/3  generated-c contrast"
    logs = [(run / f"seed-{seed}" / "metrics.jsonl").read_text() for seed in (3, 4)]
    assert [json.loads(line)["epoch"] for line in logs[0].splitlines()] == [1, 2]
    said.clear()
    again = train_recipe(recipe, None, run, 2, torch.device("cpu"), said.append)
    assert {measure.key: measure.estimate("tiny") for measure in again} == found
    fewer = recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"generated": ["fog"]})})
    (one,) = [m for m in train_recipe(fewer, None, run, 1, torch.device("cpu"), [].append) if m.kind == "corruption"]
    assert (one.key, len(one.samples["tiny"])) == ("generated-c/mean-1", 1), "of what is asked for, not of all there"
    assert not [line for line in said if line.startswith("scored") or "epoch 1/" in line]
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"seed": 1})})
    with pytest.raises(DataError, match="was trained on other images"):
        train_recipe(other, None, run, 2, torch.device("cpu"), said.append)


def command(file: Path, *arguments: str) -> list[str]:
    run = str(file.parent / "run")
    return [sys.executable, "-m", "raycnn", "train", str(file), "--run", run, "--device", "cpu", *arguments]


def test_the_command_prints_the_comparison(file: Path):
    done = subprocess.run(command(file), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed 3  epoch 1/2  loss ")
    head, clean, *_ = lines[lines.index("") + 1 :]
    assert head.index("published") == clean.index("25.00 %")
    assert clean.split()[0] == "clean/error"
    assert clean.endswith("  a paper")
    assert done.stderr == ""


def test_the_command_compares_with_nothing_published_of_another_setting(file: Path):
    sets = [f"--set=training.{value}" for value in ("epochs=1", "optimizer.sgd.lr=0.2", "regularizers.cutout=null")]
    lines = subprocess.run(command(file, *sets), capture_output=True, text=True, check=True).stdout.splitlines()
    head, *rows = lines[lines.index("") + 1 :]
    assert head.split("  ")[-1] == "95 % interval"
    assert not [row for row in rows if "25.00 %" in row]
    of = "epochs 2, regularizers.cutout on, optimizer.sgd.lr 0.1"
    here = "epochs 1, regularizers.cutout off, optimizer.sgd.lr 0.2"
    assert rows[-1] == f"clean/error: published figures are of {of}; here {here}: not compared."
    resolved = read_recipe(file.parent / "run" / "recipe.yaml")
    assert resolved.published == read_recipe(file).published, "also a copy of the file knows what they are of"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cifar-10-c/error", "cifar-10-c/mce15"),
        ("cifar-10-p/flip_probability", "cifar-10-p/mfp10"),
        ("clean", "clean/error"),
    ],
)
def test_an_unknown_metric_is_refused_with_the_nearest(file: Path, wrong: str, right: str):
    file.write_text(TEXT.replace("metric: clean/error", f"metric: {wrong}"), encoding="utf-8")
    with pytest.raises(SpecError, match=rf"tiny.yaml:13: published.0.metric: .* Did you mean {right}\?"):
        read_recipe(file)


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
