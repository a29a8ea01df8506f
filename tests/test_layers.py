"""Layers point one way: the core knows neither Ray nor Optuna, and what must start fast does not import torch."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import raycnn

ROOT = Path(raycnn.__path__[0])
CORE = ("errors", "spec", "data", "regularizers", "models", "training", "robustness", "recipes")
FIRST = ("errors", "spec", "data", "commands", "tune", "console")  # what a command needs to start

# Imports each module with the named packages refused; prints what failed, and what came in with the rest.
PROGRAM = """
import importlib, json, sys
modules, refused = json.loads(sys.argv[1])

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} is not for this layer")

sys.meta_path.insert(0, Refuse())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed[module] = str(error)
print(json.dumps([failed, [name for name in sys.modules if "." not in name]]))
"""


def modules(*parts: str) -> tuple[str, ...]:
    """Every module of these parts of raycnn, found without importing any."""
    files = [file for part in parts for file in (ROOT / f"{part}.py", *(ROOT / part).rglob("*.py")) if file.exists()]
    names = [".".join(("raycnn", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    return tuple(name.removesuffix(".__init__") for name in names)


@cache
def imported(names: tuple[str, ...], refused: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """What could not be imported with `refused` refused, and the packages that were imported."""
    given = json.dumps([names, refused])
    done = subprocess.run([sys.executable, "-c", PROGRAM, given], capture_output=True, text=True, check=True)
    failed, packages = json.loads(done.stdout.splitlines()[-1])
    return failed, packages


def test_modules_are_found_in_files_and_folders():
    assert {"raycnn.errors", "raycnn.spec", "raycnn.spec.trial", "raycnn.training.loop"} <= set(modules(*CORE))


@pytest.mark.parametrize("part", CORE)
def test_the_core_imports_without_ray_and_optuna(part: str):
    failed, _ = imported(modules(*CORE), ("ray", "optuna"))
    names = modules(part)
    assert names
    assert {name: why for name, why in failed.items() if name in names} == {}


def test_torchvision_comes_in_with_no_module_of_the_core():
    assert "torchvision" not in imported(modules(*CORE), ("ray", "optuna"))[1]


@pytest.mark.parametrize("part", FIRST)
def test_what_a_command_needs_first_imports_without_torch_ray_and_optuna(part: str):
    failed, _ = imported(modules(*FIRST), ("ray", "optuna", "torch", "torchvision"))
    names = modules(part)
    assert names
    assert {name: why for name, why in failed.items() if name in names} == {}


def test_what_only_hands_on_what_others_train_imports_without_torch():
    """Hub, controllers and forwarders: torch is 260 MB in each of them."""
    names = (*modules("slots"), "raycnn.search.worker", "raycnn.search.trainable", "raycnn.training.log")
    assert imported(names, ("torch", "torchvision"))[0] == {}


def test_a_report_is_made_without_ray():
    assert imported(modules("reporting"), ("ray",))[0] == {}
