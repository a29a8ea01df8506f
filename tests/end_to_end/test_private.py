"""A search for one user among others: no key of theirs in what it writes, no file that the umask forbids, nothing left.

On a busy machine, too, and without a home that can be written.
"""

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CANARIES = {
    name: f"canary-{number}-9f1c7ab2"
    for number, name in enumerate(
        (
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
            *("WANDB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
        )
    )
}
IN_URIS = {"MLFLOW_TRACKING_URI": "http://user:canary-8-9f1c7ab2@127.0.0.1:9/"}

SPACE = """
name: private
data: {name: shapes, validation: 50, train_images: 200, test_images: 50}
model: needy:make
budget: {epochs: 1, batch_size: 50}
space: {regularizers: {}, optimizer: {sgd: {lr: {type: float, low: 0.1, high: 1.0}}}}
search: {trials: 2, corruption_images: 10, objectives: [val/clean_error]}
finals: {top: 1, seeds: 1, score: [generated-c], generated: [brightness]}
"""

NEEDY = """
import os
from raycnn.models.fastnet import FastNet

def make(image_px):
    assert os.environ["HF_TOKEN"].startswith("canary"), "who needs a secret has it"
    return FastNet(image_px)
"""

SLOW_AGENTS = """
import sys, time
if any("dashboard/agent.py" in argument for argument in sys.orig_argv):
    time.sleep(20)  # longer than the 15 s that a raylet waits
if any("runtime_env/agent/main.py" in argument for argument in sys.orig_argv):
    time.sleep(18)
"""


@dataclass
class Ended:
    status: int
    output: str
    run: Path
    left: list[Path]
    rays_files: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)  # "canary in file", of all files while it ran


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    folder = tmp_path_factory.mktemp("private")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    (folder / "needy.py").write_text(NEEDY, encoding="utf-8")
    (folder / "sitecustomize.py").write_text(SLOW_AGENTS, encoding="utf-8")
    run = folder / "run"
    with tempfile.TemporaryDirectory(prefix="t-") as place, (folder / "out").open("w+") as output:  # sockets: short
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        process = subprocess.Popen(
            [sys.executable, "-m", "raycnn.tune", "space.yaml", "--run", str(run)],
            cwd=folder,
            env=clean
            | CANARIES
            | IN_URIS
            | {"HOME": "/proc/nohome", "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": place}
            | {"PYTHONPATH": str(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0o027,
        )
        seen = Ended(0, "", run, [])
        deadline = time.monotonic() + 500
        while process.poll() is None:
            assert time.monotonic() < deadline, (folder / "out").read_text()
            seen.rays_files |= {path.name for path in _files(Path(place))}
            seen.found |= _canaries(Path(place))
            time.sleep(0.5)
        seen.found |= _canaries(run)
        seen.status, seen.output = process.returncode, (folder / "out").read_text()
        seen.left = list(Path(place).iterdir())
        yield seen


def _files(folder: Path) -> list[Path]:
    return [Path(at, name) for at, _, names in os.walk(folder) for name in names]


def _canaries(folder: Path) -> set[str]:
    canaries = [value.encode() for value in CANARIES.values()] + [b"canary-8"]
    found = set()
    for path in _files(folder):
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            content = path.read_bytes()
        except OSError:  # it is gone
            continue
        found |= {f"{canary.decode()} in {path}" for canary in canaries if canary in content}
    return found


def test_it_runs_where_agents_are_slow_and_no_home_can_be_written(ended):
    assert ended.status == 0, ended.output
    assert "auth_token, for you alone" in ended.output


def test_no_secret_stands_in_any_file_that_was_written_while_those_who_need_it_have_it(ended):
    assert {"raylet.out", "gcs_server.out", "runtime_env_agent.log"} <= ended.rays_files
    assert any(name.startswith("job-driver-") for name in ended.rays_files)
    assert any(name.startswith("worker-") for name in ended.rays_files)
    assert ended.found == set()
    assert "canary" not in ended.output


def test_files_of_a_run_have_the_modes_that_the_umask_says(ended):
    wrong = []
    for at, folders, files in os.walk(ended.run):
        for names, right in ((folders, 0o750), (files, 0o640)):
            modes = {name: stat.S_IMODE(Path(at, name).lstat().st_mode) for name in names}
            wrong += [f"{oct(mode)} {at}/{name}" for name, mode in modes.items() if mode != right]
    assert wrong == []


def test_nothing_is_left_in_the_temporary_directory(ended):
    assert ended.left == []
