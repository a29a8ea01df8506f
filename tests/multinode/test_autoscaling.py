"""A cluster that begins without a worker, and grows as trials wait: Ray's own autoscaler, with nodes on one machine."""

import json
import subprocess
import time
from collections.abc import Iterator

import pandas as pd
import pytest
from conftest import SPACE, Nodes

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

# Ray's provider for tests: its nodes are processes beside the head.
CONFIG = {
    "cluster_name": "growing",
    "max_workers": 2,
    "idle_timeout_minutes": 0.1,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "foreground_node_launch": True,
        "worker_liveness_check": False,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands")},
    **{f"{name}_commands": [] for name in ("setup", "head_setup", "worker_setup")},
    **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
    "file_mounts_sync_continuously": False,
}


@pytest.fixture(scope="module")
def growing(nodes: Nodes) -> Iterator[None]:
    """On the head, which itself offers no processor."""
    # Where `ray up` puts it; JSON is YAML.
    (nodes.place / "head" / "root" / "ray_bootstrap_config.yaml").write_text(json.dumps(CONFIG))
    command = "env AUTOSCALER_UPDATE_INTERVAL_S=1 RAY_FAKE_CLUSTER=1 RAY_raylet_start_wait_time_s=120"
    command += " ray start --head --num-cpus=0 --port=6379"
    command += " --object-store-memory=200000000 --dashboard-host=127.0.0.1 --disable-usage-stats"
    nodes.run("head", *command.split(), "--autoscaling-config=/root/ray_bootstrap_config.yaml")
    yield
    nodes.run("head", "ray", "stop", "--force")


def workers(nodes: Nodes) -> int:
    """Raylets beside the head's."""
    return nodes.run("head", "ps", "-eo", "args").count("raylet/raylet --") - 1


def test_nodes_come_for_the_trials_that_wait_and_go_when_they_are_idle(nodes: Nodes, growing: None):
    space, run = nodes.shared / "growing.yaml", nodes.shared / "growing"
    space.write_text(SPACE)
    assert workers(nodes) == 0
    output = nodes.shared / "growing.txt"
    # As many trials as it takes for both nodes to come.
    command = ("python", "-m", "raycnn.tune", space, "--address", "auto", "--run", run, "--trials", 8)
    search = nodes.start("head", *command, output=output)
    most = 0
    deadline = time.monotonic() + 400
    while search.poll() is None:
        most = max(most, workers(nodes))
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(1)
    assert search.returncode == 0, output.read_text()
    assert most == 2
    assert "up to 2 CPUs" in output.read_text()
    assert pd.read_parquet(run / "trials.parquet")["state"].tolist() == ["COMPLETE"] * 8
    assert set(pd.read_parquet(run / "robustness.parquet")["model"]) > {"baseline"}
    deadline = time.monotonic() + 180
    while workers(nodes):
        assert time.monotonic() < deadline, subprocess.run(["ps", "aux"], capture_output=True, text=True).stdout
        time.sleep(1)
