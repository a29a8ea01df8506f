"""Every script of scripts/bench runs, at the smallest size that its docstring names."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts" / "bench").iterdir() if os.access(path, os.X_OK) and path.is_file())
# They start Ray, or take longer than some seconds.
SLOW = {
    "hub",
    "in_ray",
    "memory",
    "scaling",
    "scoring",
    "search",
    "search_table",
    "throughput",
    "training",
    "turnaround",
}


def smallest(script: Path) -> list[str]:
    """The arguments behind `Smallest:` in a script's docstring, which may go on in indented lines."""
    words = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    found = re.search(r"^Smallest:(.*(?:\n +.*)*)", words, re.MULTILINE)
    assert found, f"{script.name}: its docstring has no line `Smallest: ARGUMENTS`, for this test"
    return shlex.split(found[1])


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in SLOW else []) for path in SCRIPTS],
)
def test_the_script_runs_at_its_smallest_size(script: Path, tmp_path: Path):
    arguments = [word.replace("FOLDER", str(tmp_path)) for word in smallest(script)]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=550
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"\d", done.stdout), "it printed no figure"


def test_all_scripts_are_type_checked():
    """pyright finds files without a suffix only where they are named."""
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]["include"]
    assert SCRIPTS
    assert [path for path in SCRIPTS if str(path.relative_to(ROOT)) not in checked] == []
