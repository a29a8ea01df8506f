"""What there is to say of a data set is said by training and by scoring, and kept for the report by a search."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raycnn.recipes import train_recipe
from raycnn.robustness.external import score_models, sources
from raycnn.search.images import search_images
from raycnn.search.rundir import write_manifest
from raycnn.spec.reading import read_recipe, read_request, search_from_text

CPU = torch.device("cpu")
LEFT_OUT = "left out: 1 file with .txt"
LEAK = (
    "1 of 4 test images: the same pixels as a training image (such as test/dog/0.png and train/dog/0.png). "
    "Scores are too good; remove such images."
)
RECIPE = """
name: pictures
data: {name: folder, validation: 4}
training: {model: fastnet, epochs: 1, batch_size: 4, optimizer: {sgd: {lr: 0.1}}}
scoring: {score: []}
"""
SEARCH = """
name: pictures
data: {name: folder, validation: 4}
model: fastnet
budget: {epochs: 1, batch_size: 4}
space: {optimizer: {sgd: {lr: {type: float, low: 0.1, high: 1.0}}}}
search: {trials: 1, objectives: [val/clean_error]}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight training pictures of cats, all alike, and eight of dogs, one of which is a test picture, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, root = np.random.default_rng(0), tmp_path / "pictures"
    for split, count in (("train", 8), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
                picture.save(root / split / name / f"{number}.png")
    for number in range(1, 8):
        shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / f"{number}.png")
    shutil.copy(root / "train" / "dog" / "0.png", root / "test" / "dog" / "0.png")
    (root / "train" / "cat" / "notes.txt").write_text("no picture")
    return root


def test_training_and_scoring_say_it(root: Path, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    told: list[str] = []
    train_recipe(read_recipe(tmp_path / "recipe.yaml"), root, tmp_path / "run", 1, CPU, told.append)
    assert told[:2] == [LEFT_OUT, f"warning: {LEAK}"]
    assert told[2].startswith("warning: 2 of 4 validation images: the same pixels as a training image (such as train/")
    told.clear()
    trained = sources([f"net={tmp_path / 'run' / 'seed-0' / 'checkpoint.pt'}"])
    request = read_request(["data.name=folder", "scoring.score=[]"])
    score_models(trained, request, root, tmp_path / "scores", False, CPU, told.append)
    assert told[:2] == [LEFT_OUT, f"warning: {LEAK}"]


def test_a_search_keeps_it_for_the_report(root: Path, tmp_path: Path):
    images = search_images(search_from_text(SEARCH, "test"), root, tmp_path / "run")
    write_manifest(tmp_path, {"data": images.facts()})
    kept = json.loads((tmp_path / "manifest.json").read_text())["data"]
    assert kept["classes"] == ["cat", "dog"]
    assert kept["side_px"] == 32
    assert kept["left_out"] == "1 file with .txt"
    assert kept["duplicates"][0] == LEAK
    assert kept["duplicates"][1].startswith("2 of 4 validation images: ")
    assert len(kept["duplicates"]) == 2
