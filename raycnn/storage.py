"""Directories with a URI: any file system that pyarrow opens, as S3, Google Cloud Storage, HDFS."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raycnn.masking import has_secret

TROUBLE = (OSError, ValueError)
"""What a file system raises, and a URI that names none."""


def is_uri(place: str) -> bool:
    return "://" in place


def refusal(uri: str) -> str:
    """Why it must not be used, and the mend; empty where it may. Does not repeat it, for it may hold a secret."""
    try:
        secret = urlsplit(uri).password is not None or has_secret(uri)
    except ValueError:
        return "is no URI. Write it as s3://BUCKET/NAME."
    return "has a password in its URI, where logs would show it. Give it by the environment." if secret else ""


def last_part(uri: str) -> str:
    """The name of the directory; empty where the URI names none. uri: not refused."""
    name = urlsplit(uri).path.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name


def open_directory(uri: str, make: bool = False) -> Any:
    """A pyarrow.fs.FileSystem whose paths are relative to the directory. make: where it is one of this machine's.

    Raises what is in TROUBLE.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

    inner, base = FileSystem.from_uri(uri)
    if make and isinstance(inner, LocalFileSystem):
        inner.create_dir(base, recursive=True)
    return SubTreeFileSystem(base, inner)


def files_below(system: Any, name: str) -> dict[str, Any]:
    """pyarrow.fs.FileInfo of all files below a directory, or of one file, by their paths; none where nothing is there.

    Raises what is in TROUBLE, also where a path would lead out of the directory: object stores have such names.
    """
    from pyarrow.fs import FileSelector, FileType

    itself = None if name == "" else system.get_file_info(name)
    if itself is not None and itself.type == FileType.File:
        return {name: itself}
    found = system.get_file_info(FileSelector(name, recursive=True, allow_not_found=True))
    files = {file.path.lstrip("/"): file for file in found if file.type == FileType.File}
    for path in files:
        if ".." in Path(path).parts:
            raise ValueError(f"{path!r} is no path to copy")
    return files


def read(system: Any, name: str) -> bytes | None:
    """A whole file; None where there is none. Raises what is in TROUBLE."""
    if not is_there(system, name):
        return None
    with system.open_input_stream(name, compression=None) as stream:
        return stream.read()


def write(system: Any, name: str, content: bytes) -> None:
    """Whole or not at all: an object store puts so by itself, on a disk the file is written beside and moved.

    Raises what is in TROUBLE.
    """
    new = f"{name}.part" if is_disk(system) else name
    if is_disk(system) and "/" in name:
        system.create_dir(name.rpartition("/")[0], recursive=True)
    with system.open_output_stream(new, compression=None) as stream:
        stream.write(content)
    if new != name:
        system.move(new, name)


def is_there(system: Any, name: str) -> bool:
    from pyarrow.fs import FileType

    return system.get_file_info(name).type != FileType.NotFound


def is_disk(system: Any) -> bool:
    """Whether it has directories and moves files, as object stores do not."""
    return system.base_fs.type_name in ("local", "hdfs")


def words(error: Exception) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split())[:200]
