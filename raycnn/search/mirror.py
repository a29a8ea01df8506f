"""A run directory with a URI: work is done in a directory here, and the URI is kept a copy of it, so that a search
outlives the machine that its driver runs on. Any file system that pyarrow opens: S3, Google Cloud Storage, HDFS."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raycnn import storage
from raycnn.errors import ClusterError, RaycnnError

JOURNAL, MANIFEST, HOLDER = "study.journal", "manifest.json", "run.holder.json"
PERIOD_S = 15.0
SILENCE_S = 90.0  # a holder that has said nothing for so long is dead
_TROUBLE = (*storage.TROUBLE, KeyError)  # of the file system, or of what somebody else has left at the URI
_LEFT_HERE = ("run.lock", HOLDER, "checkpoint.prev.pt")


def working_directory(uri: str) -> Path:
    """Where the work on a run with this URI is done: runs/ and the last part of its path."""
    if storage.has_password(uri):
        raise ClusterError("--run: has a password in its URI, where logs would show it. Give it by the environment.")
    name = storage.last_part(uri)
    if not name:
        raise ClusterError(f"--run {uri}: names no directory. Write it as s3://BUCKET/NAME.")
    return Path("runs") / name


@contextlib.contextmanager
def mirrored(run: Path, uri: str | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Bring to `run` what the URI has more, and keep the URI a copy of it: every PERIOD_S, and on leaving.

    run: held. None: there is no URI. Raises ClusterError where the URI cannot be used, is held by another driver, or
    holds another search; RaycnnError on leaving if the last of the run could not be copied.
    """
    if uri is None:
        yield
        return
    mirror = _Mirror(run, uri)
    mirror.hold()
    try:
        mirror.pull()
    except BaseException:
        mirror.let_go()
        raise
    stop = threading.Event()
    thread = threading.Thread(target=mirror.keep_pushing, args=(stop, warn), daemon=True, name="mirror")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        try:
            mirror.leave()
        except _TROUBLE as error:
            raise RaycnnError(
                f"--run {uri}: could not be brought up to date ({storage.words(error)}). The run is whole in {run}; "
                "the same command copies it."
            ) from error


class _Mirror:
    def __init__(self, run: Path, uri: str) -> None:
        self._run, self._uri = run, uri
        try:
            self._there: Any = storage.open_directory(uri, make=True)
        except storage.TROUBLE as error:
            raise self._unusable(error) from error
        self._makes_folders = self._there.base_fs.type_name == "local"
        self._pushed: dict[str, tuple[int, int]] = {}  # size and time of what the URI has of a file
        self._me: dict[str, Any] = json.loads((run / HOLDER).read_text())

    def _unusable(self, error: Exception) -> ClusterError:
        return ClusterError(
            f"--run {self._uri}: cannot be used ({storage.words(error)}). Check the URI and your credentials."
        )

    def hold(self) -> None:
        """Say at the URI who works on it. No lock, for object stores have none: two that start within the same second
        may both come through."""
        try:
            if (holder := self._other_holder()) is not None:
                silent_s = time.time() - holder["renewed"]
                if silent_s < SILENCE_S:
                    raise ClusterError(
                        f"--run {self._uri}: is held by process {holder['pid']} on {holder['host']} since "
                        f"{holder['since']}. Wait for it; if it is dead, {SILENCE_S - silent_s:.0f} s are enough."
                    )
            self._renew()
        except _TROUBLE as error:
            raise self._unusable(error) from error

    def _other_holder(self) -> dict[str, Any] | None:
        found = self._read(HOLDER)
        holder: dict[str, Any] = self._me if found is None else json.loads(found)
        return holder if any(holder[key] != self._me[key] for key in self._me) else None

    def _renew(self) -> None:
        self._write(HOLDER, json.dumps(self._me | {"renewed": time.time()}).encode())

    def leave(self) -> None:
        """Copy the rest, if the URI is still held by this driver, and let it go."""
        if self._other_holder() is None:
            self.push()
            self.let_go()

    def let_go(self) -> None:
        """Nobody holds the URI any more; where that cannot be said, SILENCE_S says it."""
        with contextlib.suppress(OSError):
            self._there.delete_file(HOLDER)

    def pull(self) -> None:
        """Bring the URI's files here if it has more of the search than this machine."""
        try:
            sizes = {name: file.size for name, file in storage.files_below(self._there, "").items()}
            if JOURNAL not in sizes:
                return
            here = self._run / JOURNAL
            if here.exists():
                there, known = (
                    json.loads(text)["started"] for text in (self._read(MANIFEST) or b"{}", self._text(MANIFEST))
                )
                if there != known:
                    raise ClusterError(
                        f"--run {self._uri}: holds a search of {there}, and {self._run}, where the work on it would be "
                        f"done, one of {known}. Move the directory away, or give another --run."
                    )
                if here.stat().st_size >= sizes[JOURNAL]:
                    return
            # The journal last and whole: by it the next start knows that everything else is here.
            for name in sorted(sizes, key=lambda name: name == JOURNAL):
                if Path(name).name not in _LEFT_HERE and (content := self._read(name)) is not None:
                    path = self._run / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    new = path.with_name(f"{path.name}.tmp")
                    new.write_bytes(content)
                    new.replace(path)
                    self._pushed[name] = _stamp(path)
        except _TROUBLE as error:
            raise self._unusable(error) from error

    def keep_pushing(self, stop: threading.Event, warn: Callable[[str], None]) -> None:
        """Runs until `stop`."""
        told = False
        while not stop.wait(PERIOD_S):
            try:
                if self._other_holder() is not None:  # this machine was silent too long, as a laptop that slept
                    warn(f"{self._uri}: is held by another driver now, so nothing is copied there any more")
                    return
                self.push()
                self._renew()
                told = False
            except _TROUBLE as error:
                if not told:
                    warn(f"{self._uri}: cannot be written ({storage.words(error)}); the search goes on in {self._run}")
                told = True

    def push(self) -> None:
        """Copy what has changed; the journal as it was before the other files, so that what it tells of is there."""
        journal = self._run / JOURNAL
        told = journal.read_bytes() if journal.exists() else b""
        told = told[: told.rfind(b"\n") + 1]
        for path in sorted(self._run.rglob("*")):
            name = path.relative_to(self._run).as_posix()
            if path == journal or not path.is_file() or _stays(path, name):
                continue
            with contextlib.suppress(FileNotFoundError):  # gone since
                stamp = _stamp(path)
                if self._pushed.get(name) != stamp:
                    self._write(name, path.read_bytes())
                    self._pushed[name] = stamp
        size = (len(told), 0)
        if told and self._pushed.get(JOURNAL) != size:
            self._write(JOURNAL, told)
            self._pushed[JOURNAL] = size

    def _read(self, name: str) -> bytes | None:
        from pyarrow.fs import FileType

        if self._there.get_file_info(name).type != FileType.File:
            return None
        with self._there.open_input_stream(name, compression=None) as stream:
            return stream.read()

    def _text(self, name: str) -> str:
        return (self._run / name).read_text(encoding="utf-8")

    def _write(self, name: str, content: bytes) -> None:
        if self._makes_folders and "/" in name:
            self._there.create_dir(name.rpartition("/")[0], recursive=True)
        with self._there.open_output_stream(name, compression=None) as stream:
            stream.write(content)


def _stays(path: Path, name: str) -> bool:
    """Whether a file has no meaning elsewhere, or can be made again."""
    return path.name in _LEFT_HERE or path.suffix == ".tmp" or name.startswith(("cache/", "probe-", "tune/slots/"))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
