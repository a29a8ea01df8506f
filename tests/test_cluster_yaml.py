"""The cluster files, offline: valid for the pinned Ray, and without an open door."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
FILES = {name: ROOT / name for name in ("cluster.yaml", "cluster/gcp.yaml", "cluster/local.yaml")}
CLOUDS = [name for name in FILES if name != "cluster/local.yaml"]
KUBERAY = ROOT / "cluster" / "kuberay.yaml"


def read(name: str) -> dict[str, Any]:
    return YAML(typ="safe").load(FILES[name])


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


@pytest.mark.filterwarnings("ignore")  # of Ray's own imports
def test_ray_takes_the_file(config: dict[str, Any]):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


@pytest.mark.filterwarnings("ignore")
def test_ray_refuses_a_key_that_it_does_not_know(config: dict[str, Any]):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError):
        validate_config(prepare_config(config) | {"idle_minutes": 3})


def test_both_start_commands_ask_for_the_token_and_the_dashboard_stays_on_loopback(config: dict[str, Any]):
    for which in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = [command for command in config[which] if "ray start" in command]
        assert start
        assert all("RAY_AUTH_MODE=token" in command for command in start)
    head = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_open_to_the_world_or_newer_than_pinned(name: str):
    text = FILES[name].read_text()
    assert "0.0.0.0" not in text
    assert "nightly" not in text
    assert "latest" not in str(read(name)["setup_commands"])
    assert "cd ~/raycnn && scripts/setup" in read(name)["setup_commands"]


def test_what_is_mounted_exists_and_is_all_that_the_setup_needs(config: dict[str, Any]):
    mounted = {target for target in config["file_mounts"].values() if not target.startswith("~")}
    assert all((ROOT / target).exists() for target in mounted)
    assert mounted >= {"raycnn", "search_spaces", "scripts", "pyproject.toml", "constraints.txt", "README.md"}


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_of_a_cloud_start_at_none_on_the_spot_market_and_go_when_idle(name: str):
    config = read(name)
    workers = [kind for kind_name, kind in config["available_node_types"].items() if kind_name != "head"]
    assert config["head_node_type"] == "head"
    assert all(kind["min_workers"] == 0 for kind in workers)
    assert all("spot" in str(kind["node_config"]).lower() for kind in workers)
    assert config["idle_timeout_minutes"] > 0


def test_kubernetes_runs_the_pinned_ray_with_a_token_and_without_a_public_address():
    job = YAML(typ="safe").load(KUBERAY)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if re.match(r"ray(\[|==)", line))
    assert cluster["rayVersion"] == pinned.rpartition("==")[2]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/shared", "/dev/shm"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
    assert "--run /shared/" in job["spec"]["entrypoint"]
    assert "--address auto" in job["spec"]["entrypoint"]
