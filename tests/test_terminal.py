"""How a command ends: what a terminal cannot show is replaced, and what was no fault of its is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray.util.metrics

from raycnn.errors import ClusterError, SpecError
from raycnn.robustness.external import sources
from raycnn.search.cluster import prepare_environment
from raycnn.search.gauges import Gauged
from raycnn.search.observer import Silent
from raycnn.spec.reading import read_search

CODE = """
import sys
from raycnn.commands import run
from raycnn.errors import DataError

def tell() -> None:
    print("0.5 ± 0.1 µ − ≤")
    raise DataError("größe ≤ 3: wrong. Mend it.")

sys.argv = ["raycnn"]
run(tell)
"""


def test_a_terminal_that_is_not_utf_8_gets_question_marks():
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr.decode("latin-1")
    assert done.stdout.decode("latin-1").strip() == "0.5 ± 0.1 µ ? ?"
    assert done.stderr.decode("latin-1").strip() == "raycnn: größe ? 3: wrong. Mend it."


LOSS = """
import sys
from ray.exceptions import ActorDiedError
from raycnn.commands import run

def lose() -> None:
    raise ActorDiedError()

sys.argv = ["raycnn"]
run(lose)
"""


def test_what_ray_has_lost_is_one_line():
    done = subprocess.run([sys.executable, "-c", LOSS], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    lost = "Ray has lost something (The actor died unexpectedly before finishing this task)"
    assert done.stderr == f"raycnn: {lost}. Give the same command again.\n"


COMMANDS = """
import sys
from raycnn import commands

def of(name):
    return (
        ["tune", f"{name}.yaml"],
        ["tune", "space.yaml", "--set", f"{name}=1"],
        ["tune", "space.yaml", "--dry-run", "--data", f"http{name}://{name}"],
        ["watch", name],
        ["train", name],
        ["train", "space.yaml"],
        ["train", "space.yaml", "--device", name],
        ["score", name],
        ["score", name, "--model", name],
        ["score", name, "--model", f"{name}:{name}"],
        ["compare", name],
        ["report", name],
        ["ablate", name],
        ["export", name],
        ["reproduce", name, "0"],
        ["reproduce", name, name],
        ["fetch", name],
        ["corrupt", "--out", name, "--name", name],
        ["corrupt", "--out", name, "--name", "folder", "--data", name],
        [name],
    )

for words in (*of(sys.argv[1]), *of(sys.argv[2])):
    sys.argv = ["raycnn", *words]
    try:
        commands.main()
    except SystemExit as error:
        print(*words, "ends with", error.code)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_mistake_in_any_command_ends_well_on_any_terminal_whatever_its_name(encoding: str, tmp_path: Path):
    (tmp_path / "space.yaml").write_text("größe: ≤\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, "größe ≤ ½".encode(), b"caf\xe9"],  # the latter is no UTF-8
        env=os.environ | {"PYTHONIOENCODING": encoding},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode(encoding)
    ends = [line for line in done.stdout.decode(encoding).splitlines() if "ends with" in line]
    assert len(ends) == 40
    assert {line.split()[-1] for line in ends} == {"2"}


def test_what_a_run_could_not_name_in_its_files_is_refused_in_one_line(tmp_path: Path, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    monkeypatch.chdir(folder)
    search = "{name: a, data: {name: shapes%s}, model: fastnet, budget: {epochs: 1, batch_size: 8}, %s}"
    space = "space: {optimizer: {sgd: {lr: 0.1}}}"
    Path("root.yaml").write_text(search % (", root: here", space), encoding="utf-8")
    Path("start.yaml").write_text(search % ("", f"{space}, search: {{start: [recipe.yaml]}}"), encoding="utf-8")
    for name in ("root", "start"):
        with pytest.raises(SpecError, match=r"is not UTF-8, and a run could not name it\. Rename it\.$"):
            read_search(Path(f"{name}.yaml"))


@pytest.mark.parametrize("given", ["--run", "here"])
def test_what_ray_could_not_be_told_is_refused_before_it_starts(given: str, tmp_path: Path, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    if given == "here":
        monkeypatch.chdir(folder)
    else:
        monkeypatch.setattr(sys, "argv", ["raycnn", "tune", "a.yaml", given, str(folder)])
    with pytest.raises(ClusterError, match=r"is not UTF-8, and Ray takes no other names\. Rename it\.$"):
        prepare_environment(tmp_path / "log")


def test_a_network_in_a_file_that_is_not_named_in_utf_8_has_a_name_that_can_be_kept(tmp_path: Path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.pt"
    Path(os.fsdecode(path)).touch()
    (source,) = sources([os.fsdecode(path)])
    assert source.key[0].encode() == b"caf\\udce9"


def test_the_name_of_a_run_reaches_prometheus_in_ascii(monkeypatch):
    tags: list[str] = []

    class Gauge:
        def __init__(self, *_: object, **__: object) -> None: ...

        def set_default_tags(self, given: dict[str, str]) -> None:
            tags.extend(given.values())

        def set(self, *_: object) -> None: ...

    monkeypatch.setattr(ray.util.metrics, "Gauge", Gauge)
    Gauged(Silent(), "größe", 3, [], [])
    assert set(tags) == {r"gr\xf6\xdfe"}
