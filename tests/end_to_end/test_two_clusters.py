"""Two searches on one machine, each with a Ray of its own."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import SPACE, Search, as_user

SMALL = SPACE.replace("trials: 6", "trials: 2").replace("seeds: 2", "seeds: 1").replace("1400", "600")


@pytest.fixture
def neighbour() -> Iterator[tuple[Path, int | None]]:
    """A folder of another user, and that user's number; None where the tests have no right to be another, or another
    cannot read this checkout."""
    folder = Path(tempfile.mkdtemp(prefix="neighbour-"))
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 and shutil.which("setpriv") else None
    # Twice, for the first is started with root's rights.
    again = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import raycnn'])"
    if subprocess.run([*as_user(user), sys.executable, "-c", again], capture_output=True, check=False).returncode:
        user = None
    if user is not None:
        os.chown(folder, user, user)
    yield folder, user
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_searches_of_two_users_side_by_side_both_end_with_their_report(tmp_path, neighbour):
    """The other cluster comes while the first search runs: that is the one that Ray would find."""
    folder, user = neighbour
    first = Search(tmp_path, space=SMALL)
    first.until(lambda: "\nsearch\n" in first.text())
    second = Search(folder, space=SMALL, environment=os.environ | {"HOME": str(folder)}, user=user)
    for search in (first, second):
        search.ends(0, 500)
        assert search.text().splitlines()[-1] == f"Report: {search.run / 'report.html'}"
    if user is not None:
        assert {path.stat().st_uid for path in second.run.rglob("*")} == {user}
