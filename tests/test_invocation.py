"""What is printed to be typed works in the shell that it is printed in."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import raycnn

ROOT = Path(raycnn.__path__[0]).parent
PYTHON = Path(sys.executable)
# Any command that says how it is resumed.
PROGRAM = """
from raycnn import commands
@commands.resumable("nothing is lost")
def wait(name: str):
    raise KeyboardInterrupt
commands.run(wait)
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A checkout with an environment in it, not activated: its `python` is a link to another's, as venv makes it."""
    environment = tmp_path / "checkout" / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python").write_text(f'#!/bin/sh\nexec {PYTHON} -c "import sys; print(sys.argv[1:])" "$@"\n')
    (environment / "python").chmod(0o755)
    return environment.parents[1]


def told(arguments: list[str], argv: list[str], executable: Path, path: str, folder: Path) -> str:
    """What invocation says in a process that was started so."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv, sys.executable = {argv!r}, {str(executable)!r}
from raycnn import invocation
print({"invocation.same_command()" if not arguments else f"invocation.command(*{arguments!r})"})
"""
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        [PYTHON, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_where_nothing_is_activated_the_interpreter_is_named_and_the_shell_finds_it(elsewhere: Path):
    """As scripts/quickstart ends; another python is on the PATH."""
    python, argv = elsewhere / ".venv/bin/python", [str(ROOT / "raycnn" / "tune.py"), "a space.yaml", "--trials", "3"]
    line = told([], argv, python, os.environ["PATH"], elsewhere)
    assert line == ".venv/bin/python -m raycnn.tune 'a space.yaml' --trials 3"
    done = subprocess.run(["sh", "-c", line], cwd=elsewhere, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["-m", "raycnn.tune", "a space.yaml", "--trials", "3"])
    assert told([], argv, python, os.environ["PATH"], ROOT).startswith(f"{python} -m raycnn.tune ")


def test_where_it_is_activated_its_name_is_enough(elsewhere: Path):
    python, argv = elsewhere / ".venv/bin/python", [str(ROOT / "raycnn" / "__main__.py"), "fetch", "cifar10"]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    assert told([], argv, python, path, elsewhere) == "python -m raycnn fetch cifar10"
    assert told(["score", "/run"], argv, python, path, elsewhere) == "python -m raycnn score /run"


def test_the_script_is_named_as_the_shell_finds_it(elsewhere: Path):
    script = elsewhere / ".venv/bin/raycnn"
    script.touch(0o755)
    argv, path = [str(script), "tune", "space.yaml"], f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    assert told([], argv, PYTHON, path, elsewhere) == "raycnn tune space.yaml"
    other = elsewhere / "other"
    other.mkdir()
    (other / "raycnn").touch(0o755)  # of another installation, and first on the PATH
    assert told([], argv, PYTHON, f"{other}{os.pathsep}{path}", elsewhere) == ".venv/bin/raycnn tune space.yaml"
    assert told(["score", "a b"], argv, PYTHON, str(other), elsewhere) == ".venv/bin/raycnn score 'a b'"


def test_an_interrupted_command_can_be_typed_again_as_it_says(tmp_path: Path):
    """For real: the line that was printed, in a shell."""
    file = tmp_path / "raycnn"  # as the script that is installed
    file.write_text(f"#!{PYTHON}\n{PROGRAM}")
    file.chmod(0o755)
    done = subprocess.run([file, "now"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 130, done.stderr
    line = done.stderr.splitlines()[-1].strip()
    assert shlex.split(line) == [str(file), "now"]
    again = subprocess.run(line, shell=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (again.returncode, again.stderr) == (130, done.stderr)
