"""A driver that is killed on a cluster that lives on: what it had there goes."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
DRIVER = """
import sys
from pathlib import Path
from raycnn.search.cluster import connect, prepare_environment
prepare_environment(Path(sys.argv[2]) / "log.txt")
connect(sys.argv[1])
sys.path.insert(0, sys.argv[3])
import workloads
from ray import cloudpickle
cloudpickle.register_pickle_by_value(workloads)
from raycnn.slots import client
from raycnn.slots.messages import Task
from raycnn.slots.pool import SlotPool, SlotShape
pool = SlotPool(workloads.WORKLOAD, SlotShape(workers=2, cpus=0.9), Path(sys.argv[2]))
pool.grow(1)
pool.post("ready")
for report in client.follow(pool.hub, Task("endless", {"directory": sys.argv[2], "steps": 10**6})):
    print(report.content["pid"], flush=True)
"""
LEFT = """
import sys, ray
from ray.util import placement_group_table
from ray.util.state import list_actors
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
actors = [actor.class_name for actor in list_actors(sys.argv[1], filters=[("state", "=", "ALIVE")])]
print([name for name in actors if name != "_AutoscalingCoordinatorActor"])  # Ray keeps it
print([group for group in placement_group_table().values() if group["state"] != "REMOVED"])
print(ray.available_resources()["CPU"])
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home with a token of its own, as a user of a cluster has."""
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    return {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}


@pytest.fixture
def head(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a Ray head that no test's process started."""
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for probe in (first, second, third):
            probe.bind(("127.0.0.1", 0))
        port, dashboard, agent = (probe.getsockname()[1] for probe in (first, second, third))
    command = [BIN / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--disable-usage-stats"]
    folder = tempfile.mkdtemp(prefix="ray-")  # of its own, or this would be the Ray that others on this machine find
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}"]
    with (tmp_path / "head.txt").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    try:
        deadline = time.monotonic() + 60
        while "--address=" not in (said := (tmp_path / "head.txt").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        yield said.split("--address='")[1].split("'")[0]
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # what it started is of its group; `ray stop` would stop every Ray here
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def test_killed_driver_leaves_no_actor_worker_or_placement_group_on_the_cluster(head, environment, tmp_path):
    arguments = [head, str(tmp_path), str(Path(__file__).parent)]
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout
    told = driver.stdout.readline().strip()
    assert told
    rank = Path("/proc") / told
    assert rank.exists()
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + 60
    while rank.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not rank.exists()
    deadline = time.monotonic() + 120
    while True:
        asked = subprocess.run([sys.executable, "-c", LEFT, head], capture_output=True, text=True, env=environment)
        left = asked.stdout
        if left == "[]\n[]\n2.0\n" or time.monotonic() > deadline:
            break
    assert left == "[]\n[]\n2.0\n", asked.stderr
