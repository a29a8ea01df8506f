"""A disk that fills up is no result of a setting: the search ends with the reason, and goes on when there is room."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import SPACE, Search
from optuna.trial import TrialState

SMALL = SPACE.replace("trials: 6", "trials: 4")
NO_FINALS = ("--set", "finals=off")
pytestmark = pytest.mark.slow


def mount(place: Path, options: str) -> int:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False).returncode


def make_room(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The run directory of a search in tmp_path, on a file system of its own with room for some checkpoints."""
    run = tmp_path / "run"
    run.mkdir()
    if os.getuid() or not shutil.which("mount") or mount(run, "size=9m"):
        pytest.skip("needs root's right to mount a file system")
    yield run
    subprocess.run(["umount", "--lazy", str(run)], check=True)


def ends_with_one_line(search: Search, reason: str) -> None:
    assert search.wait() == 2, search.text()
    text = search.text()
    assert "Traceback" not in text, text
    assert "Error" not in text, text
    told = [line for line in text.splitlines() if line.startswith("raycnn:")]
    assert len(told) == 1, text
    assert str(search.run) in told[0]
    assert reason in told[0]
    assert "same command" in told[0]
    assert TrialState.FAIL not in {trial.state for trial in search.trials()}, text


def goes_on_to_its_end(directory: Path) -> None:
    search = Search(directory, *NO_FINALS, space=SMALL)
    assert search.wait() == 0, search.text()
    assert len(search.trials()) == 4
    assert {trial.state for trial in search.trials()} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(
        search.epochs(trial.number) == list(range(1, 1 + len(search.epochs(trial.number)))) for trial in search.trials()
    )


def test_a_full_disk_marks_no_trial_and_the_same_command_goes_on_when_there_is_room(disk, tmp_path):
    ends_with_one_line(Search(tmp_path, *NO_FINALS, space=SMALL), "No space left on device")
    make_room(disk, "400m")
    goes_on_to_its_end(tmp_path)


def test_a_full_disk_under_the_study_marks_no_trial_either(disk, tmp_path):
    """The trainings have room of their own: it is the driver that cannot write."""
    make_room(disk, "400m")
    (tmp_path / "elsewhere").mkdir()
    (disk / "trials").symlink_to(tmp_path / "elsewhere")
    search = Search(tmp_path, *NO_FINALS, space=SMALL)
    search.until(lambda: search.epochs(0))
    filler = disk / "filler"
    filler.touch()
    while shutil.disk_usage(disk).free:
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            file.write(bytes(shutil.disk_usage(disk).free))
    ends_with_one_line(search, "No space left on device")
    filler.unlink()
    goes_on_to_its_end(tmp_path)
