"""Ctrl-C in a terminal, and SIGTERM to a whole process group: each phase of a search, and the other commands, end soon,
say how to go on, and leave nothing behind. So does a search whose Ray dies."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import SPACE, Command, Search

# Cutout is always on, so that there is something to ablate.
SMALL = (
    SPACE.replace("{choice: {off: {}, on: {size_px: {type: int, low: 2, high: 12}}}}", "{size_px: 4}")
    .replace("trials: 6", "trials: 2, scheduler: none")
    .replace("seeds: 2", "seeds: 1")
    .replace("1400", "800")
)

PHASES = (
    ("starting workers", "key"),
    ("search", "key"),
    ("finals", "signal"),
    ("scoring", "key"),
    ("scoring", "signal"),
    ("report", "key"),
)


def begun(search: Search, phase: str) -> Callable[[], bool]:
    return lambda: f"\n{phase}\n" in f"\n{search.text()}"


def test_sigterm_to_the_group_while_ray_starts_is_an_interrupt(tmp_path: Path):
    search = Search(tmp_path)
    search.until(lambda: search.processes("/gcs_server"))
    search.signal(signal.SIGTERM)
    search.ends(130)
    assert "Resume with:" in search.text()


def test_ctrl_c_while_a_command_is_imported_is_no_traceback(tmp_path: Path):
    """By a package that takes its time."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    search = Search(tmp_path, environment=os.environ | {"PYTHONPATH": str(tmp_path)})
    search.until(lambda: "importing" in search.text())
    search.ctrl_c()
    search.ends(130)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A search that was interrupted in each phase, and then went on to its end."""
    folder = tmp_path_factory.mktemp("interrupted")
    for phase, end in PHASES:
        search = Search(folder, space=SMALL)
        search.until(begun(search, phase))
        if phase == "scoring":
            search.until(begun(search, "scoring 2 trainings on 3 sets"))  # its job runs
        if end == "key":
            search.ctrl_c()
            search.ctrl_c()  # the second does nothing
        else:
            search.signal(signal.SIGTERM)
        search.ends(130)
        assert search.text().count("Resume with:") == 1, search.text()
    search = Search(folder, space=SMALL)
    search.ends(0, 400)
    return search


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_search_that_was_interrupted_in_each_phase_ends_with_its_report(interrupted: Search):
    assert interrupted.text().splitlines()[-1] == f"Report: {interrupted.run / 'report.html'}"
    assert len(interrupted.trials()) == 2
    for number in range(2):
        assert interrupted.epochs(number) == [1, 2, 3, 4]


RECIPE = """
name: small
data: {name: shapes, train_images: 200, test_images: 200}
training:
  model: fastnet
  epochs: 100
  batch_size: 100
  optimizer: {sgd: {lr: 0.1}}
"""


def ends_at_ctrl_c(command: Command, said: str, again: str) -> None:
    command.until(lambda: said in command.text())
    command.ctrl_c()
    command.ctrl_c()
    command.ends(130)
    assert again in command.text()


def test_train_ends_at_ctrl_c(tmp_path: Path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    command = Command(
        tmp_path / "run",
        sys.executable,
        "-m",
        "raycnn",
        "train",
        str(file),
        "--run",
        str(tmp_path / "run"),
        "--threads",
        "1",
    )
    ends_at_ctrl_c(command, "epoch 1/100", "finished epochs are kept. Resume with:")


def test_corrupt_ends_at_ctrl_c(tmp_path: Path):
    out = tmp_path / "out"
    command = Command(
        out, sys.executable, "-m", "raycnn", "corrupt", "--name", "shapes", "--out", str(out), "--workers", "2"
    )
    ends_at_ctrl_c(command, "images of the test split", "finished files are kept. Resume with:")
    assert not list(out.glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said", "again"),
    [
        (("score", "RUN"), "scoring 2 trainings", "what is scored is kept. Resume with:"),
        (("ablate", "RUN", "--seeds", "1"), "\ntraining\n", "nothing finished is lost. Resume with:"),
        (("reproduce", "RUN", "0"), "epoch 1/4", "the run is as it was. Resume with:"),
        (("watch", "RUN", "--no-browser"), "http://", ""),
        (("doctor", "--run", "RUN"), "ok    versions", "nothing was changed. Resume with:"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_other_commands_end_at_ctrl_c(interrupted: Search, tmp_path: Path, arguments, said, again):
    run = tmp_path / "run"
    shutil.copytree(interrupted.run, run)
    if arguments[0] == "score":
        (run / "robustness.parquet").unlink()
        shutil.rmtree(run / "outcomes")
    before = sorted(path.name for path in run.iterdir())
    command = Command(run, sys.executable, "-m", "raycnn", *(str(run) if word == "RUN" else word for word in arguments))
    ends_at_ctrl_c(command, said, again)
    if arguments[0] in ("reproduce", "doctor"):
        assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_whose_raylet_or_control_dies_says_so_and_is_resumed(tmp_path: Path):
    done = {}
    for victim, name in (("/raylet/raylet", "node process (raylet)"), ("/gcs_server", "control (gcs_server)")):
        search = Search(tmp_path, "--trials", "20")
        search.until(lambda: "/20  trial " in search.text())  # noqa: B023 called here alone
        (process,) = search.processes(victim)
        os.kill(process, signal.SIGKILL)
        assert search.ends(2) < 60
        said = search.text()
        told = f"raycnn: Ray's {name}, process {process}, has ended (killed, as the system does where memory runs out)"
        assert f"\n{told}; nothing finished is lost. Resume with:\n" in said
        assert "raycnn.tune" in said.splitlines()[-1]
        assert "core_worker" not in said
        assert "rpc" not in said
        finished = {trial.number: trial.values for trial in search.trials() if trial.state.is_finished()}
        assert finished.items() >= done.items()
        assert len(finished) > len(done)
        done = finished
