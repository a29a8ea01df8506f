"""Files that carry a digest of themselves, so that a damaged one is never read as another number.

The digest stands inside the file, for a second file could not be replaced in the same instant: it is the SHA-256 of
the whole file with zeros in the digest's place. Files of earlier versions have none, and are read as they are. Logs
that grow by lines have a check in each line instead.
"""

import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

from raycnn.errors import DataError
from raycnn.files import MOST_TEXT_BYTES, read_file, write_atomically

MARK = "raycnn-sha256:"
BLANK = MARK + "0" * 64
"""Where the digest is to stand. At the beginning of a text, so that one that is cut off still has it."""

_DIGEST = re.compile(MARK.encode() + rb"([0-9a-f]{64})")
_KEY = "sha256"
_CHECK = re.compile(rb',"check":"([0-9a-f]{8})"\}$')


def with_digest(content: bytes) -> bytes:
    """content: holds BLANK once."""
    return content.replace(BLANK.encode(), MARK.encode() + hashlib.sha256(content).hexdigest().encode(), 1)


def is_whole(content: bytes) -> bool:
    """Whether the content is what its digest is of; True where it carries none."""
    found = _DIGEST.search(content)
    if found is None:
        return True
    digest = hashlib.sha256(memoryview(content)[: found.start(1)])
    digest.update(b"0" * 64)
    digest.update(memoryview(content)[found.end(1) :])
    return digest.hexdigest().encode() == found[1]


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write a mapping with its digest. Raises OSError."""
    text = json.dumps({_KEY: BLANK} | tree, indent=2, default=str) + "\n"
    write_atomically(path, with_digest(text.encode()))


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """A mapping that `write_json` wrote; empty where there is no file. mend: what to do about a damaged one.

    Raises DataError.
    """
    try:
        content = read_file(path, MOST_TEXT_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Mend that.") from None
    if not content.strip():
        raise DataError(f"{path}: is empty. {mend}")
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged ({' '.join(str(error).split())[:100]}). {mend}") from None
    if not isinstance(tree, dict) or not is_whole(content):
        raise DataError(f"{path}: is damaged (it is not what was written). {mend}")
    tree.pop(_KEY, None)
    return tree


def with_check(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a log with a check of itself, as its last key; it must be dumped with `COMPACT`."""
    return record | {"check": f"{zlib.crc32(json.dumps(record, separators=COMPACT).encode()):08x}"}


COMPACT = (",", ":")
"""Separators of JSON in logs whose records have a check."""


def read_line(line: bytes) -> dict[str, Any] | None:
    """The record of a log's line, without its check; None where the line is damaged."""
    line = line.rstrip(b"\r\n")
    found = _CHECK.search(line)
    if found:
        line = line[: found.start()] + b"}"
        if f"{zlib.crc32(line):08x}".encode() != found[1]:
            return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is one
        return None
    return record if isinstance(record, dict) else None
