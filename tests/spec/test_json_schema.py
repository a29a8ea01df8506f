"""The JSON schema that editors read says of a file what raycnn says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from raycnn.spec.schema import json_schema

FOLDER = Path(__file__).parents[2] / "search_spaces"
VALIDATOR = Draft202012Validator(json_schema())


def joint() -> Any:
    return YAML(typ="safe").load(FOLDER / "joint.yaml")


def test_the_shipped_schema_is_current():
    assert json.loads((FOLDER / "schema.json").read_text()) == json_schema(), (
        "renew it: python -m raycnn.tune --schema > search_spaces/schema.json"
    )


def test_the_page_of_all_keys_is_current():
    root = FOLDER.parent
    made = subprocess.run(
        [sys.executable, root / "scripts" / "docs" / "spec"], capture_output=True, text=True, check=True
    )
    assert (root / "docs" / "spec.md").read_text() == made.stdout, "renew it: scripts/docs/spec > docs/spec.md"


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_search_space_names_the_schema_and_follows_it(path: Path):
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=./schema.json\n")
    VALIDATOR.validate(YAML(typ="safe").load(path))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("budget", "epochs", "three"),
        ("budget", "epoch", 3),
        ("data", "name", "cifar"),
        ("search", "objectives", ["clean_error"]),
        ("search", "trials", 0),
        ("trainer", "gpus_per_worker", 2),
    ],
)
def test_a_mistake_is_marked(section: str, key: str, value: Any):
    tree = joint()
    tree[section][key] = value
    assert not VALIDATOR.is_valid(tree)


@pytest.mark.parametrize(
    ("optimizer", "valid"),
    [
        ({"sgd": {"lr": 0.1}}, True),
        ({"sgd": {"lr": 1000.0}}, False),
        ({"sgd": {"lr": {"choice": [0.1, 0.2]}}}, True),
        ({"sgd": {"lr": {"type": "float", "low": 0.1}}}, False),
        ({"sgd": {"lr": {"type": "real", "low": 0.1, "high": 0.2}}}, False),
        ({"sgd": {"momentum": 0.9}}, False),
    ],
)
def test_a_value_is_a_constant_within_its_limits_a_range_or_a_choice(optimizer: dict[str, Any], valid: bool):
    tree = joint()
    tree["space"]["optimizer"] = optimizer
    assert VALIDATOR.is_valid(tree) == valid


def test_an_editor_can_show_what_a_key_means():
    forms = json_schema()["$defs"]
    assert forms["CutoutSpace"]["properties"]["size_px"]["description"] == "side of each square, pixels"
    assert "learning rate" in forms["SgdSpace"]["properties"]["lr"]["description"]
    assert all("@" not in text for text in json.dumps(json_schema()).split('"'))
