"""Whose models may run: those that are typed, and those of runs that this user has made here."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from raycnn import models
from raycnn.errors import SpecError
from raycnn.models import trust
from raycnn.models.trust import ANY, Trusted, UntrustedModel, remember, remembered

NETS = """
import torch

class Tiny(torch.nn.Module):
    width = 12
    def features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

class Fails(Tiny):
    def features(self, images):
        raise ValueError("no features\\nof these")

def tiny(image_px): return Tiny()
def fails(image_px): return Fails()
def signature(): return Tiny()
def raises(image_px): return {}["none"]
def leaves(image_px): raise SystemExit(3)
def nothing(image_px): pass
"""

SPACE = """
name: own
data: {name: shapes, validation: 20, train_images: 100, test_images: 20}
model: trust_nets:signature
budget: {epochs: 1, batch_size: 20}
space: {optimizer: {sgd: {lr: 0.1}}}
finals: off
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, with modules; nothing is trusted yet, and the account's states are in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(trust, "_trusted", Trusted())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trust_nets.py").write_text(NETS)
    (tmp_path / "trust_broken.py").write_text("def tiny(image_px:\n")
    (tmp_path / "trust_raising.py").write_text("raise OSError('a disk is gone')\n")
    (tmp_path / "trust_leaving.py").write_text("import sys; sys.exit('bye')\n")
    (tmp_path / "trust_lacking.py").write_text("import a_module_that_is_not_there\n")
    return tmp_path


def test_a_model_that_nobody_has_asked_for_is_not_imported(folder: Path):
    (folder / "trust_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    with pytest.raises(UntrustedModel, match=r"trust_evil:make .*module trust_evil.*--trust-model") as refusal:
        models.build("trust_evil:make", 8)
    assert "\n" not in str(refusal.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("given", ["trust_nets:tiny", ANY])
def test_a_trusted_one_is_found_in_the_current_folder_behind_everything_else(folder: Path, given: str):
    trust.trust([given])
    assert models.build("trust_nets:tiny", 8).width == 12
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize("inside", [".", "finals/model"])
def test_a_run_directory_is_not_looked_into_for_modules(folder: Path, monkeypatch: pytest.MonkeyPatch, inside: str):
    run = folder / "run"
    (run / inside).mkdir(parents=True, exist_ok=True)
    (run / "study.journal").touch()
    (run / inside / "trust_of_run.py").write_text(NETS)
    monkeypatch.chdir(run / inside)
    trust.trust(["trust_of_run:tiny"])
    with pytest.raises(SpecError, match=r"cannot be imported .*which is no run directory"):
        models.build("trust_of_run:tiny", 8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("trust_not_there:tiny", r"cannot be imported \(No module named 'trust_not_there'\). Start in the folder"),
        ("trust_lacking:tiny", r"cannot be imported \(No module named 'a_module_.*\). Mend its imports"),
        ("trust_broken:tiny", r"cannot be imported \(SyntaxError: .*trust_broken.py, line 1\)\). Mend the module"),
        (
            "trust_raising:tiny",
            r"cannot be imported \(OSError: a disk is gone, .*trust_raising.py:1\). Mend the module",
        ),
        ("trust_leaving:tiny", r"cannot be imported \(SystemExit: bye, .*trust_leaving.py:1\)"),
        ("trust_nets:none", r"cannot be imported \(module 'trust_nets' has no attribute 'none'\). Name something"),
        (
            "trust_nets:signature",
            r"signature\(8\) fails \(TypeError: .*0 positional.*\). factory\(image_px\) must give",
        ),
        ("trust_nets:raises", r"raises\(8\) fails \(KeyError: 'none', .*trust_nets.py:16\). factory\(image_px\) must"),
        ("trust_nets:leaves", r"leaves\(8\) fails \(SystemExit: 3, .*trust_nets.py:17\)"),
        ("trust_nets:nothing", "gave a NoneType. It must give a Module with width and features"),
        ("trust_nets:fails", r"features of 2 images of 8 px fail \(ValueError: no features of these, .*:11\)"),
    ],
)
def test_whatever_is_wrong_with_a_model_is_one_line_with_its_mend(folder: Path, name: str, words: str):
    trust.trust([name])
    with pytest.raises(SpecError, match=f"^model: {name.partition(':')[0]}:.*{words}") as refusal:
        models.check(name, 8)
    assert "\n" not in str(refusal.value)


def test_what_a_worker_trusts_is_what_its_driver_does(folder: Path):
    trust.trust(["trust_nets:tiny"])
    told = trust.trusted()
    trust.adopt(Trusted())
    with pytest.raises(UntrustedModel):
        models.build("trust_nets:tiny", 8)
    trust.adopt(told)
    models.build("trust_nets:tiny", 8)


def test_a_run_is_remembered_for_this_user_at_this_place_with_this_model(folder: Path):
    run = folder / "run"
    run.mkdir()
    assert remembered(run) == ()
    remember(run, "nets:a")
    remember(run, "nets:b")
    remember(run, "fastnet")
    assert remembered(run) == ("nets:a", "nets:b")
    (record,) = (folder / "state" / "raycnn" / "runs").iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == stat.S_IMODE((run / "run.id").stat().st_mode) == 0o600
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o700


def test_a_copy_and_a_forged_directory_are_not_the_users(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run = folder / "run"
    run.mkdir()
    remember(run, "nets:a")
    shutil.copytree(run, folder / "copy")
    assert remembered(folder / "copy") == ()
    for forged in ("", "0" * 32, "../" * 8 + "x", "\0", "é"):
        (folder / "copy" / "run.id").write_text(forged)
        assert remembered(folder / "copy") == ()
    number = (run / "run.id").read_text()
    (run / "run.id").write_text("f" * 32)  # another run has been put into its place
    assert remembered(run) == ()
    (run / "run.id").write_text(number)
    assert remembered(run) == ("nets:a",)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "another account"))
    assert remembered(run) == ()


def test_a_number_that_came_with_a_run_is_not_kept(folder: Path):
    """Who made the directory knows it, and could put another directory there."""
    run = folder / "run"
    run.mkdir()
    (run / "run.id").write_text("a" * 32)
    remember(run, "nets:a")
    assert (run / "run.id").read_text().strip() != "a" * 32
    assert remembered(run) == ("nets:a",)


def test_a_damaged_record_or_a_home_that_cannot_be_written_means_that_the_user_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run = folder / "run"
    run.mkdir()
    remember(run, "nets:a")
    (record,) = (folder / "state" / "raycnn" / "runs").iterdir()
    for damage in ("", "[]", "{", "null", '{"run": 3}'):
        record.write_text(damage)
        assert remembered(run) == ()
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    remember(run, "nets:a")
    assert remembered(run) == ()


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["search", "--dry-run"])
def test_a_search_whose_model_cannot_be_had_ends_before_ray_starts_and_leaves_its_directory_free(
    folder: Path, more: tuple[str, ...]
):
    (folder / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "raycnn.tune", "space.yaml", "--run", "run"]
    done = subprocess.run(
        [*command, *more],
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("raycnn: model: trust_nets:signature(32) fails (TypeError: ")
    assert not (folder / "run" / "spec.yaml").exists()
