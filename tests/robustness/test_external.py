"""Networks from elsewhere: factories and weights as people have them; the wrong ones refused in one line."""

import argparse
import collections
import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raycnn.errors import CheckpointError, RaycnnError, SpecError
from raycnn.models import imported
from raycnn.robustness.attacks import score_fgsm
from raycnn.robustness.evaluate import score_clean
from raycnn.robustness.external import Normalised, Wish, keep_sources, load_models, score_models, sources
from raycnn.robustness.foreign_weights import Which
from raycnn.spec.reading import read_request

NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))

def parallel():
    return nn.DataParallel(small())

class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = small()

    def forward(self, images):
        return self.module(images)

class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 5, 3), nn.Linear(5 * 6 * 6, 4)

    def forward(self, images):
        found = self.first(images)
        return self.last(found.view(len(found), -1))

class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.net, self.end = small(), end

    def forward(self, images):
        return self.end(self.net(images))

def soft():
    return Ending(lambda logits: logits.softmax(1))

def pair():
    return Ending(lambda logits: (logits, "features"))

def named():
    return Ending(lambda logits: {"loss": 0, "logits": logits})

class Zero(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)).sum(1, keepdim=True) * images.new_zeros(10)

def words():
    return Ending(lambda logits: "cat")

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


WEIGHTS = _small(5).state_dict()
OTHERS = _small(6).state_dict()


def _under(prefix: str, weights: dict[str, torch.Tensor] = WEIGHTS) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def _views_of_one(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """As an optimizer with flat parameters keeps them."""
    flat = torch.cat([torch.ones(7), *(one.flatten() for one in tensors)])
    parts = flat.split([7, *(one.numel() for one in tensors)])[1:]
    return [part.view(one.shape) for part, one in zip(parts, tensors, strict=True)]


class Config(dict[str, Any]):
    pass


class Python2(dict[str, Any]):
    def __reduce__(self) -> tuple[Any, ...]:
        return collections.OrderedDict, ([list(item) for item in self.items()],)


FORMS = {
    "plain": WEIGHTS,
    "state_dict": {"epoch": 3, "state_dict": WEIGHTS},
    "DataParallel": {"model": _under("module.")},
    "compiled": _under("_orig_mod."),
    "compiled within DataParallel": {"net": _under("module._orig_mod.")},
    "DataParallel within compiled": {"net": _under("_orig_mod.module.")},
    "Lightning": {"state_dict": _under("model.") | {"criterion.weight": torch.ones(4)}, "hyper_parameters": {"lr": 1}},
    "Lightning, compiled": {"state_dict": _under("net._orig_mod.")},
    "AveragedModel": {"n_averaged": torch.tensor(3), **_under("module.")},
    "AveragedModel of a model": _under("module.model.") | {"n_averaged": torch.tensor(3)},
    "timm": {"arch": "x", "state_dict": WEIGHTS, "state_dict_ema": OTHERS, "args": argparse.Namespace(lr=0.1)},
    "torchvision": {"model": WEIGHTS, "model_ema": _under("module.", OTHERS), "epoch": 1, "args": argparse.Namespace()},
    "average alone": {"ema": {"decay": 0.99, "module": WEIGHTS}, "epoch": 1},
    "a NumPy number": {"net": WEIGHTS, "acc": np.float64(93.1), "best": np.float32(1), "epoch": np.int64(3)},
    "a NumPy array": {"net": WEIGHTS, "class_weights": np.ones(4)},
    "an optimizer": {"model_state_dict": WEIGHTS, "optimizer": torch.optim.Adam([torch.zeros(1)]).state_dict()},
    "a path": {"model": WEIGHTS, "saved_at": Path("runs/a"), "by_class": collections.defaultdict(int)},
    "OrderedDict": collections.OrderedDict(WEIGHTS),
    "pytorch-cifar": {"net": _under("module."), "acc": 95.4, "epoch": 199},
    "AugMix, whose model is a name": {"epoch": 9, "model": "wrn", "state_dict": _under("module."), "best_acc": 0.9},
    "timm's train.py": {
        "epoch": 3,
        "arch": "resnet20",
        "state_dict": WEIGHTS,
        "optimizer": torch.optim.SGD([torch.zeros(1)], 0.1, momentum=0.9).state_dict(),
        "version": 2,
        "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.99), output=Path("out")),
        "amp_scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "state_dict_ema": OTHERS,
        "metric": 93.1,
    },
    "torchvision's references": {
        "model": WEIGHTS,
        "optimizer": torch.optim.SGD([torch.zeros(1)], 0.1).state_dict(),
        "lr_scheduler": {"milestones": collections.Counter({30: 1}), "last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(model_ema=True),
        "model_ema": {"n_averaged": torch.tensor(32), **_under("module.", OTHERS)},
        "scaler": {"scale": 65536.0},
    },
    "RobustBench": {"state_dict": _under("model.") | {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1)}},
    "robustness": {
        "model": _under("module.model.")
        | _under("module.attacker.model.")
        | {"module.normalizer.new_mean": torch.zeros(3, 1, 1)},
        "epoch": 3,
    },
    "MMPretrain": {
        "meta": {"epoch": 3, "CLASSES": ["cat"], "cfg": "model = dict()"},
        "state_dict": _under("backbone."),
    },
    "Lightning, an attribute of one's own": {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": _under("classifier.") | {"metric.total": torch.zeros(1)},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.9)}},
        "loops": {"fit_loop": {"state_dict": {}}},
    },
    "FSDP and compiled in each part": {
        "model": {
            f"_orig_mod.{name.replace('.', '._fsdp_wrapped_module._orig_mod.')}": v for name, v in WEIGHTS.items()
        }
    },
    "DeepSpeed": {
        "module": WEIGHTS,
        "buffer_names": [],
        "optimizer": None,
        "ds_version": "0.15",
        "ds_config": {"zero": 1},
    },
    "Composer": {
        "state": {"model": _under("module."), "timestamp": {"epoch": 3}},
        "rng": [{"torch": torch.zeros(9).byte()}],
    },
    "parameters": {name: nn.Parameter(value) for name, value in WEIGHTS.items()},
    "views of one tensor": dict(zip(WEIGHTS, _views_of_one(list(WEIGHTS.values())), strict=True)),
    "swa_utils.AveragedModel": torch.optim.swa_utils.AveragedModel(_small(5), use_buffers=True).state_dict(),
    "a dictionary of a kind of one's own": {"state_dict": WEIGHTS, "hyper_parameters": Config(lr=0.1, model=Config())},
    "as Python 2 pickled it": Python2(WEIGHTS),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_in_the_forms_that_people_save(folder, form):
    torch.save(FORMS[form], "epoch=9-step=100.ckpt")
    _are_loaded("their_nets:small@epoch=9-step=100.ckpt")


def _are_loaded(wish: str, name: str = "small") -> None:
    models = load_models(sources([wish]), Wish(), 4, 8)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(models[name, 0](images), _small(5)(images / 255))


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_in_the_form_before_pytorch_1_6_too(folder, form):
    torch.save(FORMS[form], "w.pth.tar", _use_new_zipfile_serialization=False)
    _are_loaded("their_nets:small@w.pth.tar")


def test_backbone_and_head_are_put_side_by_side(folder):
    torch.save({"state_dict": {"backbone.1.weight": WEIGHTS["1.weight"], "head.1.bias": WEIGHTS["1.bias"]}}, "w.pt")
    _are_loaded("their_nets:small@w.pt")


def test_what_is_left_out_of_a_file_is_said(folder):
    torch.save(FORMS["RobustBench"], "w.pt")
    told: list[str] = []
    load_models(sources(["their_nets:small@w.pt"]), Wish(), 4, 8, say=told.append)
    assert told == ["w.pt: left out, as no part of this network: mu, sigma"]


def test_what_modules_save_beside_tensors_is_left_out(folder):
    more = {"0._extra_state": {"scale": 1.0}, "1.packed": WEIGHTS["1.weight"].to_sparse()}
    torch.save({"epoch": 1, "model": {**WEIGHTS, **more}}, "w.pt")
    told: list[str] = []
    load_models(sources(["their_nets:small@w.pt"]), Wish(), 4, 8, say=told.append)
    assert told == ["w.pt: left out, as no part of this network: 0._extra_state, 1.packed"]
    _are_loaded("their_nets:small@w.pt")


def test_a_network_that_looks_at_versions_gets_those_of_its_own_state(folder):
    Path("their_versions.py").write_text(
        "from torch import nn\n"
        "from their_nets import small\n"
        "class Versioned(nn.Sequential):\n"
        "    _version = 2\n"
        "    def _load_from_state_dict(self, state, prefix, metadata, *rest):\n"
        "        if metadata.get('version') != 2:\n"
        "            raise ValueError('no version')\n"
        "        super()._load_from_state_dict(state, prefix, metadata, *rest)\n"
        "def made():\n"
        "    return Versioned(*small())\n",
        encoding="utf-8",
    )
    torch.save(_under("module."), "w.pt")
    _are_loaded("their_versions:made@w.pt", "made")


def test_of_a_student_and_a_teacher_none_is_taken_by_chance(folder):
    torch.save({"state_dict": _under("student.") | _under("teacher.", OTHERS)}, "w.pt")
    with pytest.raises(CheckpointError, match=r"several of its parts fit: student, teacher\)"):
        load_models(sources(["their_nets:small@w.pt"]), Wish(), 4, 8)


def test_weights_come_as_safetensors_too(folder):
    save_file(WEIGHTS, "w.safetensors")
    _are_loaded("their_nets:small@w.safetensors")


@pytest.mark.parametrize(
    ("network", "weights"),
    [
        ("parallel", _under("module.")),
        ("parallel", WEIGHTS),
        ("Wrapper", _under("module.")),
        ("Wrapper", _under("module.module.")),
        ("Wrapper", _under("model.module.")),
    ],
)
def test_wrappers_that_are_the_networks_own_stay(folder, network, weights):
    (folder / "lr=0.1").mkdir()
    torch.save(weights, "lr=0.1/w.pt")
    _are_loaded(f"their_nets:{network}@lr=0.1/w.pt", network)


def test_of_raw_and_averaged_weights_it_is_said_which_were_taken_and_the_user_may_choose(folder):
    torch.save(FORMS["timm"], "w.pt")
    told: list[str] = []
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    cases: tuple[tuple[Which | None, int, str], ...] = (
        (None, 5, "w.pt: state_dict taken; there is also state_dict_ema (--weights ema)"),
        ("raw", 5, "w.pt: state_dict taken; there is also state_dict_ema (--weights ema)"),
        ("ema", 6, "w.pt: state_dict_ema taken; there is also state_dict (--weights raw)"),
    )
    for which, seed, words in cases:
        models = load_models(sources(["their_nets:small@w.pt"]), Wish(which=which), 4, 8, say=told.append)
        torch.testing.assert_close(models["small", 0](images), _small(seed)(images / 255))
        assert told.pop() == words
    torch.save(WEIGHTS, "raw.pt")
    with pytest.raises(CheckpointError, match="no weights that --weights ema could mean, only raw ones"):
        load_models(sources(["their_nets:small@raw.pt"]), Wish(which="ema"), 4, 8)


def test_a_network_that_flattens_by_view_is_scored_and_attacked(folder):
    models = load_models(sources(["their_nets:Viewing"]), Wish(), 4, 8, attacked=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    labels = np.array([0, 1, 2, 3, 0, 1])
    cpu = torch.device("cpu")
    assert score_clean(models, images, labels, cpu)[0].row.n == 6
    assert [one.row.n for one in score_fgsm(models, images, labels, cpu)] == [6] * 6


def test_what_networks_give_beside_logits_is_left_out(folder):
    torch.manual_seed(5)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    for name in ("pair", "named"):
        model = load_models(sources([f"their_nets:{name}"]), Wish(), 4, 8)[name, 0]
        assert model(images).shape == (5, 4)


def test_a_network_that_guesses_is_told(folder):
    small = ["data.name=shapes", "data.train_images=50", "data.test_images=60", "scoring.score=[]"]
    told: list[str] = []
    cpu = torch.device("cpu")
    score_models(sources(["their_nets:Zero"]), read_request(small), None, folder / "run", False, cpu, told.append)
    assert "warning: Zero errs on 90.0 % of the clean images, as guessing does (90.0 %)" in told[-1]


def test_a_mean_of_values_of_255_is_refused_with_the_right_one():
    with pytest.raises(SpecError, match=r"mean: is of values of 255, .* Write \[0.4914, 0.4824, 0.4467\]"):
        read_request(["data.name=shapes", "mean=[125.3, 123.0, 113.9]"])


def test_probabilities_are_refused_or_their_logarithms_are_taken(folder):
    with pytest.raises(SpecError, match=r"their_nets:soft: gives probabilities .* add --probabilities"):
        load_models(sources(["their_nets:soft"]), Wish(), 4, 8)
    wish = Wish(probabilities=True)
    models = load_models(sources(["their_nets:soft", "their_nets:small"]), wish, 4, 8)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    soft: Any = models["soft", 0]
    torch.testing.assert_close(soft(images), soft.network.net(images / 255).log_softmax(1))
    assert (models["small", 0](images) < 0).any()
    assert (models["small", 0](images) > 0).any()


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
        ("their_nets:small@states", "holds no state_dict"),
        ("their_nets:small@script", r"\(it is a TorchScript program\). Save weights alone: torch.save"),
        ("their_nets:small@others", "are not this network's weights"),
        ("their_nets:small@whole", r"\(it holds their_nets.Viewing, and .* code\). Save weights alone: torch.save"),
        ("their_nets:words", "their_nets:words: gives a str, and a tensor of logits is needed"),
        ("text", "text"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line_and_nothing_is_run(folder, wish, message):
    Path("text").write_text("weights", encoding="utf-8")
    _hostile(Path("hostile"), folder / "ran")
    torch.save(imported("their_nets:Viewing", "")(), "whole")
    torch.save([torch.zeros(3)], "list")
    torch.save([WEIGHTS, OTHERS], "states")
    with warnings.catch_warnings(action="ignore"):  # it is no longer advised
        torch.jit.save(torch.jit.script(_small(5)), "script")
    torch.save(nn.Linear(2, 2).state_dict(), "others")
    with pytest.raises(RaycnnError, match=message) as caught:
        load_models(sources([wish]), Wish(), 4, 8)
    assert isinstance(caught.value, SpecError | CheckpointError)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(("classes", "image_px", "message"), [(5, 8, "data have 5 classes"), (4, 9, "images of 9 px")])
def test_a_network_of_other_images_is_refused(folder, classes, image_px, message):
    with pytest.raises(SpecError, match=message):
        load_models(sources(["their_nets:small"]), Wish(), classes, image_px)


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
