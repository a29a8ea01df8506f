"""scripts/submit: a search as a job on a cluster that asks for a token."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from command import SPACE

SUBMIT = Path(__file__).parents[2] / "scripts" / "submit"
RAY = Path(sys.executable).parent / "ray"


OWN_NETWORK = """
from torch import nn


class Tiny(nn.Module):
    width = 8

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def tiny(image_px):
    return Tiny()
"""


def submit(
    *arguments: object, environment: dict[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SUBMIT), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


@pytest.fixture
def nobody() -> dict[str, str]:
    """An environment whose Job API does not exist."""
    return os.environ | {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9", "RAY_AUTH_TOKEN": "0" * 64}


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """An environment for the cluster that was started in it."""
    with socket.socket() as gcs, socket.socket() as dashboard:
        gcs.bind(("127.0.0.1", 0))
        dashboard.bind(("127.0.0.1", 0))
        port, api = gcs.getsockname()[1], dashboard.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray-") as place:  # sockets want short paths
        environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{api}",
            "PATH": f"{RAY.parent}:{os.environ['PATH']}",
        }
        start = [str(RAY), "start", "--head", f"--port={port}", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
        start += [f"--dashboard-port={api}", f"--temp-dir={place}", "--disable-usage-stats", "--block"]
        with subprocess.Popen(
            start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as head:
            yield environment
            head.terminate()


def test_mistakes_are_told_in_one_line(tmp_path: Path, nobody: dict[str, str]):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    without = submit(space, environment=nobody)
    assert without.returncode == 2
    assert without.stderr.startswith("submit: --run is missing. ")
    assert without.stderr.count("\n") == 1
    silent = submit(space, "--run", tmp_path / "run", environment=nobody)
    assert silent.returncode == 2
    assert silent.stderr.startswith("submit: http://127.0.0.1:9: ")
    assert silent.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_search_runs_as_a_job_and_a_wrong_token_is_refused(tmp_path: Path, cluster: dict[str, str]):
    space, run = tmp_path / "space.yaml", tmp_path / "run"
    space.write_text(SPACE.replace("finals: {top: 1, seeds: 2, score: [generated-c], generated:", "finals: off #"))
    deadline = time.monotonic() + 180
    while True:
        wrong = submit(space, "--run", run, environment=cluster | {"RAY_AUTH_TOKEN": "0" * 64})
        if "refuses this token" in wrong.stderr or time.monotonic() > deadline:  # else the cluster is still starting
            break
        time.sleep(1)
    assert wrong.returncode == 2, wrong.stderr
    assert "refuses this token" in wrong.stderr
    assert not run.exists()
    (tmp_path / "own_networks.py").write_text(OWN_NETWORK)  # travels with the job
    wish = ("--run", run, "--trials", 3, "--set", "model=own_networks:tiny")
    done = submit(space, *wish, environment=cluster, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_parquet(run / "trials.parquet")) == 3
    assert "Traceback" not in done.stdout
    assert cluster["RAY_AUTH_TOKEN"] not in done.stdout + done.stderr + (run / "raycnn.log").read_text()
