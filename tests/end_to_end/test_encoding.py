"""A whole search whose run has a name of other letters, on a terminal that is not UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import SPACE


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_search_ends_well_on_a_terminal_that_is_not_utf_8(encoding: str, tmp_path: Path):
    space = SPACE.replace("trials: 6", "trials: 2").replace("seeds: 2", "seeds: 1")
    (tmp_path / "space.yaml").write_text(space, encoding="utf-8")
    run = tmp_path / "größe ≤"
    done = subprocess.run(
        [sys.executable, "-m", "raycnn.tune", tmp_path / "space.yaml", "--run", run],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=400,
    )
    said = (done.stdout + done.stderr).decode(encoding)
    assert done.returncode == 0, said
    shown = str(run).encode(encoding, "replace").decode(encoding)
    assert said.splitlines()[-1] == f"Report: {shown}/report.html"
    assert "scored 3/3" in said
