"""cluster.yaml, offline: valid for the pinned Ray, and without an open door."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

CLUSTER = Path(__file__).parents[1] / "cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return YAML(typ="safe").load(CLUSTER)


@pytest.mark.filterwarnings("ignore")  # of Ray's own imports
def test_ray_takes_the_file(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_both_start_commands_ask_for_the_token_and_the_dashboard_stays_on_loopback(config):
    for which in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = [command for command in config[which] if "ray start" in command]
        assert start
        assert all("RAY_AUTH_MODE=token" in command for command in start)
    head = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert any("auth_token" in str(target) for target in config["file_mounts"])


def test_nothing_is_open_to_the_world_or_newer_than_pinned(config):
    text = CLUSTER.read_text()
    assert "0.0.0.0" not in text
    assert "nightly" not in text
    assert "latest" not in str(config.get("setup_commands"))
    assert config["idle_timeout_minutes"] > 0


def test_workers_start_at_none(config):
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    assert all(kind["min_workers"] == 0 for kind in workers)
