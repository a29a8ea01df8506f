"""Folders that go with their process, however it ends."""

import os
import stat
import subprocess
import sys

import pytest

from raycnn.temporary import PREFIX, remove_abandoned, temporary_folder

HOLDER = """
import sys
from pathlib import Path
from raycnn.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("content", encoding="utf-8")
    print(folder, flush=True)
    input()
"""


def test_a_folder_is_for_its_owner_and_goes_with_its_block(tmp_path):
    before = os.umask(0)
    try:
        with temporary_folder(tmp_path) as folder:
            (folder / "link").symlink_to(tmp_path)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []
    finally:
        os.umask(before)


def test_a_killed_processs_folder_goes_when_the_next_is_made_and_a_living_ones_stays(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as living:
        assert killed.stdout
        assert living.stdout
        folders = [said.readline().strip() for said in (killed.stdout, living.stdout)]
        killed.kill()
        killed.wait()
        (tmp_path / f"{PREFIX}of-another-kind").mkdir()  # no lock in it: not ours to remove
        with temporary_folder(tmp_path):
            assert [os.path.exists(folder) for folder in folders] == [False, True]  # noqa: PTH110
        living.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}of-another-kind"]


def test_what_another_user_has_put_there_is_left_alone(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("another user is only to be had as root")
    theirs = tmp_path / f"{PREFIX}01234567"
    theirs.mkdir()
    (theirs / ".held").touch()
    os.chown(theirs, 65534, 65534)
    (tmp_path / f"{PREFIX}link").symlink_to(theirs)
    remove_abandoned(tmp_path)
    assert theirs.exists()
    assert (tmp_path / f"{PREFIX}link").is_symlink()
