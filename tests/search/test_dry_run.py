"""--dry-run as a user gives it: a plan, every problem, and nothing changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = """
name: small
data: {name: shapes, validation: 200, train_images: 1400, test_images: 200}
model: fastnet
budget: {epochs: 4, batch_size: 100}
space:
  regularizers:
    cutout: {choice: {off: {}, on: {size_px: {type: int, low: 2, high: 12}}}}
  optimizer:
    sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}
search: {trials: 7, corruption_images: 50, grace_epochs: 2}
finals: {top: 1, seeds: 2, score: [generated-c], generated: [gaussian_noise, brightness]}
"""


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """From a home of its own."""
    (folder / "space.yaml").write_text(SPACE)
    done = subprocess.run(
        [sys.executable, "-m", "raycnn.tune", "space.yaml", "--dry-run", *arguments],
        cwd=folder,
        env=os.environ | {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


def test_a_plan_says_rungs_time_and_disk_and_leaves_nothing(folder: Path):
    done = dry_run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}
    assert lines["images"] == "1,200 training, 200 validation, 200 test"
    assert lines["rungs"] == "of 6 searched trials go on, roughly: 2 after epoch 2"
    assert lines["images to train"].startswith("about 24,000 in the search, at most 33,600; 22,400 in the finals")
    assert "thread" in lines["measured"]
    for phase in ("search", "finals", "scoring"):
        assert lines[phase].startswith("about ")
    assert " are free" in lines["run directory"]
    assert sorted(path.name for path in folder.rglob("*")) == ["space.yaml", "tmp"]


def test_all_problems_are_told_together_beside_the_plan(folder: Path):
    arguments = ("--set", "budget.batch_size=2000", "--set", "data.image_px=8", "--set", "model=nowhere:net")
    done = dry_run(folder, *arguments, "--from", "runs/before", "--run", "space.yaml/run")
    assert done.returncode == 2
    assert "# Resources" in done.stdout
    told = done.stderr.splitlines()
    for words in ("cannot be written", "model: nowhere:net cannot be imported", "--from ", "budget.batch_size: 2000"):
        assert sum(words in line for line in told) == 1, done.stderr
    assert len(told) == 4
    assert sorted(path.name for path in folder.rglob("*")) == ["space.yaml", "tmp"]


def test_a_plan_for_machines_that_are_not_here_counts_their_slots_and_foretells_no_time_of_a_gpu(folder: Path):
    arguments = ("--set", "trainer={workers: 4, gpus_per_worker: 1}")
    done = dry_run(folder, *arguments, "--for", "2x8xGPU")
    assert done.returncode == 0, done.stderr
    lines = {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}
    assert lines["planned for"] == "128 CPUs, 16 GPUs on 2 nodes"
    assert lines["concurrent trials"] == "4"
    assert ("time" in lines) != ("measured" in lines)  # that of a machine with GPUs


@pytest.mark.parametrize("arguments", [("--for", "8xTPU"), ("--for", "8xGPU", "--address", "auto")])
def test_what_cannot_be_planned_for_is_refused_in_one_line(folder: Path, arguments: tuple[str, ...]):
    done = dry_run(folder, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"raycnn: --for {arguments[1]}: ")
