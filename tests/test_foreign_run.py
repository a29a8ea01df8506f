"""Opening somebody's run runs none of its code, unless the user says so."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raycnn.models.classifier import Classifier
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.checkpoint import Checkpoint, save
from raycnn.training.log import EpochRecord

sys.path.insert(0, str(Path(__file__).parent / "reporting"))
from synthetic import Wish, make_run  # pyright: ignore[reportMissingImports]

MODULES = ("plotly", "torch", "numpy", "pandas", "optuna", "ray", "typer", "scipy", "jinja2", "PIL", "pydantic")
EVIL = """
open({canary!r}, "a").write(__name__ + "\\n")
import torch

class Evil(torch.nn.Module):
    width = 3
    def features(self, images):
        return images.mean((2, 3))

def make(image_px):
    return Evil()
"""


def forged_run(folder: Path, canary: Path) -> Path:
    """A run of somebody who wants in: its model is code that lies beside it and in it, and so are other modules."""
    run = make_run(folder / "run", Wish(epochs=3, trials=3, top=1, seeds=1))
    spec = (run / "spec.yaml").read_text().replace("model: resnet18", "model: evil_nets:make")
    assert "evil_nets" in spec
    (run / "spec.yaml").write_text(spec)
    journal = re.sub(r',"check":"\w+"}', "}", (run / "study.journal").read_text())  # as earlier versions wrote it
    (run / "study.journal").write_text(journal.replace("resnet18", "evil_nets:make"))
    for place in (folder, run):
        (place / "evil_nets.py").write_text(EVIL.format(canary=str(canary)))
        for name in MODULES:
            (place / f"{name}.py").write_text(f"open({str(canary)!r}, 'a').write('{name}\\n')\nraise SystemExit(9)\n")
    (run / "run.id").write_text("0" * 32 + "\n")
    for model in ("baseline", "trial-001", "trial-002"):
        save(checkpoint(), run / "finals" / model / "seed-0")
        save(checkpoint(), run / "trials" / "0")
    return run


def checkpoint() -> Checkpoint:
    class Mean(torch.nn.Module):
        width = 3

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    made = Classifier(Mean(), 10, (0.5,) * 3, (0.2,) * 3, rotation=False)
    spec = TrialSpec(model="evil_nets:make", epochs=1, batch_size=10, optimizer=Optimizer(sgd=Sgd(lr=0.1)))
    history = [EpochRecord(1, 10, 0.1, 1.0, {"val/clean_error": 0.5}, 1.0, 1.0)]
    return Checkpoint(spec, history, made.state_dict(), None, {}, 10, 32, (0.5,) * 3, (0.2,) * 3)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary") / "ran"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, canary: Path) -> Path:
    return forged_run(tmp_path_factory.mktemp("theirs"), canary)


def raycnn(cwd: Path, home: Path, *arguments: str, module: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raycnn"] if module else [str(Path(sys.executable).with_name("raycnn"))]
    return subprocess.run(
        [*command, *arguments],
        cwd=cwd,
        env=os.environ | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


REFUSED = (
    ("export", "."),
    ("score", "."),
    ("ablate", "."),
    ("reproduce", ".", "0"),
    ("score", "../scores", "--model", "finals/baseline/seed-0/checkpoint.pt", "--set", "data.name=shapes"),
)


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_a_command_that_needs_the_model_of_somebodys_run_refuses_in_one_line(
    run: Path, canary: Path, tmp_path: Path, command: tuple[str, ...]
):
    done = raycnn(run, tmp_path, *command)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "evil_nets" in line
    assert "--trust-model" in line
    assert not canary.exists()


@pytest.mark.parametrize("module", [False, True], ids=["raycnn", "python -m raycnn"])
@pytest.mark.parametrize("command", [("report", "."), ("compare", "."), ("--help",)], ids=" ".join)
def test_a_command_that_looks_at_somebodys_run_from_within_runs_nothing_of_it(
    run: Path, canary: Path, tmp_path: Path, command: tuple[str, ...], module: bool
):
    done = raycnn(run, tmp_path, *command, module=module)
    assert done.returncode == 0, done.stderr
    assert not canary.exists()


def test_with_the_users_word_the_model_is_imported_from_their_folder_once_and_for_all(run: Path, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    ran = tmp_path / "ran"
    (mine / "evil_nets.py").write_text(EVIL.format(canary=str(ran)))
    export = ("export", str(run), "--out", str(tmp_path / "out"), "--model", "baseline")
    assert raycnn(mine, tmp_path, *export).returncode == 2
    assert not ran.exists()
    done = raycnn(mine, tmp_path, *export, "--trust-model")
    assert done.returncode == 0, done.stderr
    assert ran.read_text().split() == ["evil_nets"]
    assert raycnn(mine, tmp_path, *export).returncode == 0  # remembered
    (run / "run.id").write_text("0" * 32 + "\n")


@pytest.mark.parametrize(("word", "status"), [("y", 0), ("n", 2)])
def test_at_a_terminal_the_user_is_asked(run: Path, tmp_path: Path, word: str, status: int):
    (tmp_path / "evil_nets.py").write_text(EVIL.format(canary=str(tmp_path / "ran")))
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("raycnn")),
            "export",
            str(run),
            "--out",
            str(tmp_path / "out"),
            "--model",
            "baseline",
        ],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.write(main, f"{word}\n".encode())
    os.close(terminal)
    said = b""
    try:
        while block := os.read(main, 4096):
            said += block
    except OSError:  # so ends a terminal whose other end is closed
        pass
    assert process.wait(300) == status, said
    assert b"Run the code of that module?" in said
    assert (tmp_path / "ran").exists() == (status == 0)
    (run / "run.id").write_text("0" * 32 + "\n")


def test_a_checkpoint_of_another_model_than_the_run_names_is_not_built(run: Path, canary: Path, tmp_path: Path):
    import shutil

    hidden = tmp_path / "run"
    shutil.copytree(run, hidden)
    (hidden / "spec.yaml").write_text((run / "spec.yaml").read_text().replace("evil_nets:make", "resnet18"))
    done = raycnn(hidden, tmp_path, "export", ".")
    assert done.returncode == 2
    assert "evil_nets" in done.stderr
    assert not canary.exists()
