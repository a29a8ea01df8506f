"""Files that are written whole or not at all: whoever reads one sees the old content or the new, after a power cut too.

Logs that grow by lines (metrics.jsonl, study.journal) have rules of their own, beside their writers.
"""

import contextlib
import errno
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PART = ".part"
"""Ends the name of every temporary file."""
LEFTOVER_S = 600.0
"""Without a change, after which a temporary file is one that a killed process has left behind."""

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What a file system answers whose folders need no sync or know none."""


_MENDS = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free space there, or have the quota raised",
    errno.EROFS: "Mount it for writing",
    errno.EIO: "See to that disk",
    errno.ESTALE: "Mount it again",  # a network's file system that is gone
    errno.ENOTCONN: "Mount it again",
}
"""What a disk answers that is full or broken, and the mend."""


def disk_fault(error: BaseException | None) -> OSError | None:
    """The error of a disk that `error` comes from; None where no disk is at fault. Nothing that was to be written can
    help it: whoever was about to write is not to be judged by it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _MENDS:
            return error
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__  # cause: of Ray's errors
    return None


def fault_words(error: OSError) -> str:
    """What a `disk_fault` is, where, and the mend: `/runs/a/spec.yaml: No space left on device. Free space there`."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}. {_MENDS[error.errno or errno.EIO]}"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that leaves the block names `path` if it names no file: those of writes and syncs do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_file(path: Path, most: int) -> bytes:
    """A whole file that somebody else may have made. most: bytes.

    Raises OSError: also where it is longer, or no regular file; a pipe is not waited for.
    """
    with io.FileIO(path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"it is longer than {most:,} bytes", str(path))
        return file.readall()


MOST_TEXT_BYTES = 100_000_000
"""Of a file of facts, such as manifest.json."""
MOST_LOG_BYTES = 2_000_000_000
"""Of a file that grows by lines: a study of a million trials."""
MOST_TABLE_BYTES = 5_000_000_000
"""Of a table, an array or the weights of a network."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file, text as UTF-8. Raises OSError, and then the file is as it was."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new binary file, open for reading and writing, that takes the place of `path` when the block ends.

    Until then it lies in the same folder, under a name that no other process or thread uses. If the block raises, it
    is removed and `path` is as it was. Its mode is what the umask says. Raises OSError as the system gave it.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        with naming(path), part.open("xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def refuse_unwritable(folder: Path) -> None:
    """Raises the OSError that making a file in `folder`, or the folder itself, would raise; nothing is changed."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        fault = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(fault, os.strerror(fault), str(there))


def free_bytes(folder: Path) -> int:
    """Of the disk that holds `folder`, or would hold it. Raises OSError."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes, in a folder and below it: those that have not changed for long."""
    long_ago = time.time() - LEFTOVER_S
    for path in folder.rglob(f"*{PART}"):
        with contextlib.suppress(OSError):  # gone, or another's
            if path.lstat().st_mtime < long_ago:
                path.unlink()


def sync_folder(folder: Path) -> None:
    """See that names made, changed or removed in a folder outlive a power cut. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(opened)
