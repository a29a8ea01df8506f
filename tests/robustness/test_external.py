"""Networks from elsewhere: factories and weights as people have them; the wrong ones refused in one line."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raycnn.errors import CheckpointError, RaycnnError, SpecError
from raycnn.robustness.external import Normalised, keep_sources, load_models, sources

NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))

def broken():
    raise RuntimeError("no weights\\nfor you")

def number():
    return 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    (tmp_path / "their_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("their_nets", None)


def _small(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))


@pytest.mark.parametrize("form", ["plain", "state_dict", "parallel", "compiled", "safetensors"])
def test_weights_come_in_the_forms_that_people_save(folder, form):
    weights = _small(5).state_dict()
    match form:
        case "plain":
            torch.save(weights, "w")
        case "state_dict":
            torch.save({"epoch": 3, "state_dict": weights}, "w")
        case "parallel":
            torch.save({"model": {f"module.{name}": value for name, value in weights.items()}}, "w")
        case "compiled":
            torch.save({f"_orig_mod.{name}": value for name, value in weights.items()}, "w")
        case "safetensors":
            save_file(weights, "w.safetensors")
    name = "w.safetensors" if form == "safetensors" else "w"
    models = load_models(sources([f"their_nets:small@{name}"]), None, None, 4, 8)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(models["small", 0](images), _small(5)(images / 255))


def test_images_are_normalised_once_whether_they_come_as_stored_or_as_floats():
    model = Normalised(nn.Identity(), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    stored = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    wanted = (stored / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(model(stored), wanted)
    torch.testing.assert_close(model(stored / 255), wanted)


def test_models_of_one_name_are_seeds_of_one_model(folder):
    torch.save(_small(0).state_dict(), "a.pt")
    found = sources(["ours=their_nets:small@a.pt", "ours=their_nets:small", "their_nets:small"])
    assert [source.key for source in found] == [("ours", 0), ("ours", 1), ("small", 0)]
    assert found[0].weights == Path("a.pt")


def _hostile(path: Path, ran: Path) -> None:
    class Runs:
        def __reduce__(self):
            return Path.touch, (ran,)

    path.write_bytes(pickle.dumps(Runs()))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("=their_nets:small", "must be MODEL, MODEL@WEIGHTS or NAME=MODEL@WEIGHTS"),
        ("nowhere.pt", "nowhere.pt is neither a checkpoint file nor package.module:factory"),
        ("their_nets:small@nowhere.pt", "nowhere.pt is no file"),
        ("no_such_module:small", "cannot be imported"),
        ("their_nets:nothing", "cannot be imported"),
        ("their_nets:broken", r"its call without arguments fails \(no weights\)"),
        ("their_nets:number", "gave a int. It must give a torch Module"),
        ("their_nets:small@text", "cannot be read as weights alone"),
        ("their_nets:small@hostile", "cannot be read as weights alone"),
        ("their_nets:small@list", "holds no state_dict"),
        ("their_nets:small@others", "are not this network's weights"),
        ("text", "text"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line_and_nothing_is_run(folder, wish, message):
    Path("text").write_text("weights")
    _hostile(Path("hostile"), folder / "ran")
    torch.save([torch.zeros(3)], "list")
    torch.save(nn.Linear(2, 2).state_dict(), "others")
    with pytest.raises(RaycnnError, match=message) as caught:
        load_models(sources([wish]), None, None, 4, 8)
    assert isinstance(caught.value, SpecError | CheckpointError)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(("classes", "image_px", "message"), [(5, 8, "data have 5 classes"), (4, 9, "images of 9 px")])
def test_a_network_of_other_images_is_refused(folder, classes, image_px, message):
    with pytest.raises(SpecError, match=message):
        load_models(sources(["their_nets:small"]), None, None, classes, image_px)


def test_scores_of_another_network_under_the_same_name_are_not_mixed(folder):
    torch.save(_small(0).state_dict(), "a.pt")
    torch.save(_small(1).state_dict(), "b.pt")
    run = folder / "run"
    keep_sources(run, sources(["x=their_nets:small@a.pt"]))
    keep_sources(run, sources(["x=their_nets:small@a.pt", "y=their_nets:small@b.pt"]))
    assert list(json.loads((run / "models.json").read_text())) == ["sha256", "x/0", "y/0"]
    with pytest.raises(SpecError, match="holds scores of another network called x/0"):
        keep_sources(run, sources(["x=their_nets:small@b.pt"]))


def test_the_command_scores_and_compares_and_scores_nothing_twice(folder):
    (folder / "their_nets.py").write_text(NETS.replace("8 * 8, 4", "32 * 32, 10"))
    for name in "ab":
        torch.save(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).state_dict(), f"{name}.pt")
    command = [sys.executable, "-m", "raycnn", "score", "run", "--model", "a=their_nets:small@a.pt"]
    command += ["--model", "b=their_nets:small@b.pt", "--set", "data.name=shapes", "--set", "data.train_images=50"]
    command += ["--set", "data.test_images=60", "--set", "scoring.score=[generated-c, pgd]"]
    command += ["--set", "scoring.generated=[fog]", "--set", "scoring.pgd_steps=2", "--device", "cpu"]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "scored 3/3  pgd pgd-2" in first
    assert "generated corruptions: error, of the one corruption scored" in first or "one corruption scored" in first
    assert "of how they were trained" in first or "No difference shown between b and a" in first
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "scored" not in again.split("test images")[0]
    rows = pd.read_parquet("run/robustness.parquet")
    assert rows.groupby("model").size().tolist() == [1 + 5 + 6] * 2
    assert np.isfinite(rows.loc[rows.set == "clean", "loss"]).all()
    wrong = subprocess.run([*command[:7], "--device", "tpu"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--device tpu: is not known" in wrong.stderr
