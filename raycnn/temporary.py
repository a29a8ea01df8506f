"""Folders for this process alone, which go when it has done with them; a killed process's, when the next is made.

Other users can neither read nor enter one (mode 0700). Its process holds a lock in it: numbers of processes are used
again, and mean nothing.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "raycnn-"
NAME_LENGTH = len(PREFIX) + 8
_LOCK = ".held"
_GONE_S = 5.0  # what writes there dies with what has been ended, but not at once


@contextlib.contextmanager
def temporary_folder(base: Path | None = None) -> Iterator[Path]:
    """A new folder in `base` (default: TMPDIR, else /tmp), until the block ends. Raises OSError."""
    base = base or Path(tempfile.gettempdir())
    remove_abandoned(base)
    # Under another name until it is held, or another process would take it for abandoned.
    new = Path(tempfile.mkdtemp(prefix=".raycnn-", dir=base))
    lock = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = new.rename(base / f"{PREFIX}{secrets.token_hex(4)}")
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def remove_abandoned(base: Path) -> None:
    """Remove the folders in `base` that killed processes of this user have left behind."""
    with contextlib.suppress(OSError):
        for folder in base.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):  # another process removes it, or it is not ours
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its process lives
        _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """The lock goes last, so that what cannot be removed now is still known for what it is."""
    deadline = time.monotonic() + _GONE_S
    while True:
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _LOCK:
                    path.unlink(missing_ok=True)
            if [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                folder.rmdir()
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.05)
