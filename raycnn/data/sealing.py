"""Test images are sealed while a search runs: a guard against accident, not against somebody who wants in.

Python's audit hook stops it (PEP 578), whichever library opens the file, as long as it does so through Python's `open`,
as numpy's memory maps do. Files that C++ code maps, other programs, and renamed files pass it. A hook cannot be taken
away again; what it looks for can.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from raycnn.errors import DataError

_sealed: list[str] = []
_watching = False


def seal(paths: Iterable[Path]) -> None:
    """Refuse, from now on, to open these files, and anything below these folders. They need not exist."""
    global _watching
    _sealed.extend(os.path.realpath(path) for path in paths)
    if not _watching:
        sys.addaudithook(_watch)
        _watching = True


@contextlib.contextmanager
def sealed(paths: Iterable[Path]) -> Iterator[None]:
    """As `seal`, for a while."""
    before = list(_sealed)
    seal(paths)
    try:
        yield
    finally:
        _sealed[:] = before


def _watch(event: str, arguments: tuple) -> None:
    if event != "open" or not _sealed or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    for one in _sealed:
        if path == one or path.startswith(one + os.sep):
            raise DataError(f"{path}: is sealed, for a search must not see test images. Only scoring opens them.")
