"""A run directory with a URI: work is done in a directory here, and the URI is kept a copy of it, so that a search
outlives the machine that its driver runs on. Any file system that pyarrow opens: S3, Google Cloud Storage, HDFS."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raycnn import ending, storage
from raycnn.errors import ClusterError, RaycnnError
from raycnn.files import PART, write_atomically
from raycnn.run_files import MANIFEST, SPEC
from raycnn.search.hold import HOLDER, SILENCE_S, Hold

JOURNAL, COPIES = "study.journal", "run.copies.json"
PERIOD_S = 15.0
LEAVE_S = 60.0  # for the last copy
_TROUBLE = (*storage.TROUBLE, KeyError)  # of the file system, or of what somebody else has left at the URI
_LEFT_HERE = ("run.lock", f"{JOURNAL}.lock", HOLDER, COPIES, "checkpoint.prev.pt")


def working_directory(uri: str) -> Path:
    """Where the work on a run with this URI is done: runs/ and the last part of its path."""
    if reason := storage.refusal(uri):
        raise ClusterError(f"--run: {reason}")
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
    mirror = _Mirror(run, uri, warn)
    mirror.take_hold()
    try:
        with _every_period(mirror.renew_hold):  # beside the copying, which may take longer than SILENCE_S
            mirror.pull()
            try:
                with _every_period(mirror.push_or_warn):
                    yield
            finally:
                ending.allow(LEAVE_S)  # also after an interrupt
                mirror.leave()
    finally:
        mirror.let_go()


def look_at(run: Path, uri: str | None, folder: Path) -> Path:
    """A directory with specification, manifest and journal as `mirrored` would bring them to `run`: that itself, or
    `folder`, which is written to; here and at the URI nothing is changed. Raises ClusterError as `mirrored` does."""
    if uri is None:
        return run
    try:
        there = storage.open_directory(uri)
        Hold(there, uri, {"pid": None}, lambda: None).refuse_held()
        ours, theirs = _whole_lines(run / JOURNAL), storage.read(there, JOURNAL) or b""
        _refuse_other_search(run, uri, ours, theirs)
        if ours.startswith(theirs):
            return run
        for name in (SPEC, MANIFEST, JOURNAL):
            if (content := storage.read(there, name)) is not None:
                write_atomically(folder / name, content)
        return folder
    except _TROUBLE as error:
        raise _unusable(uri, error) from error


def _refuse_other_search(run: Path, uri: str, ours: bytes, theirs: bytes) -> None:
    """ours, theirs: journals, empty where there is none."""
    if ours and theirs and ours.partition(b"\n")[0] != theirs.partition(b"\n")[0]:
        raise ClusterError(
            f"--run {uri}: holds another search than {run}, where the work on it would be done. "
            "Move the directory away, or give another --run."
        )


def _unusable(uri: str, error: Exception) -> ClusterError:
    return ClusterError(f"--run {uri}: cannot be used ({storage.words(error)}). Check the URI and your credentials.")


@contextlib.contextmanager
def _every_period(action: Callable[[], None]) -> Iterator[None]:
    """Do it in a thread, until the end."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(PERIOD_S):
            action()

    thread = threading.Thread(target=work, daemon=True, name="mirror")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _Mirror:
    def __init__(self, run: Path, uri: str, warn: Callable[[str], None]) -> None:
        self._run, self._uri, self._warn = run, uri, warn
        try:
            self._there: Any = storage.open_directory(uri, make=True)
        except storage.TROUBLE as error:
            raise _unusable(uri, error) from error
        self._copies = _read_copies(run / COPIES)
        self._told_there = 0  # bytes of the journal
        self._in_trouble = False
        lost = (
            f"{uri}: is no longer held by this driver, which was silent too long, so nothing is copied there any more"
        )
        me = json.loads((run / HOLDER).read_text(encoding="utf-8"))
        self._hold = Hold(self._there, uri, me, lambda: warn(f"{lost}; the search goes on in {run}"))

    def take_hold(self) -> None:
        try:
            self._hold.take()
        except _TROUBLE as error:
            raise _unusable(self._uri, error) from error

    def renew_hold(self) -> None:
        """Trouble is told by what has to be copied."""
        with contextlib.suppress(*_TROUBLE):
            self._hold.keep()

    def let_go(self) -> None:
        """Nobody holds the URI any more; where that cannot be said, SILENCE_S says it."""
        with contextlib.suppress(*_TROUBLE):
            self._hold.let_go()

    def pull(self) -> None:
        """Bring the URI's files here where another driver went on with the search: all if its journal is longer, those
        that are newer there if it is the same, as in the finals. If both went on, this machine's are set aside."""
        try:
            found = storage.files_below(self._there, "")
            there = {name: _stamp_there(file) for name, file in found.items() if not _stays(name)}
            known = self._copies
            self._copies = {name: pair for name, pair in known.items() if there.get(name) == pair[1]}
            if JOURNAL not in there:
                return
            ours, theirs = _whole_lines(self._run / JOURNAL), storage.read(self._there, JOURNAL) or b""
            self._told_there = len(theirs)
            _refuse_other_search(self._run, self._uri, ours, theirs)
            if ours.startswith(theirs) and ours != theirs:
                return  # only this machine went on
            if not theirs.startswith(ours):
                self._set_aside()
            wanted = [
                name
                for name, stamp in there.items()
                if name != JOURNAL and _is_wanted(self._run / name, stamp, known.get(name), ours != theirs)
            ]
            # The journal last and whole: by it the next start knows that everything else is here.
            for name in [*wanted, *([JOURNAL] if ours != theirs else [])]:
                if (content := storage.read(self._there, name)) is not None:
                    path = self._run / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, content)
                    self._copies[name] = [_stamp(path), there[name]]
            self._write_copies()
        except _TROUBLE as error:
            raise _unusable(self._uri, error) from error

    def _set_aside(self) -> None:
        aside = self._run.with_name(f"{self._run.name}-{time.strftime('%Y%m%dT%H%M%S')}")
        aside.mkdir()
        for path in list(self._run.iterdir()):
            if not _stays(f"{path.name}/"):
                path.rename(aside / path.name)
        self._warn(
            f"{self._uri}: another driver went on with this search, and so did this machine; the URI's counts, and "
            f"this machine's lies in {aside}"
        )

    def push_or_warn(self) -> None:
        """Trouble is told once, until it is over."""
        try:
            self.push()
            self._in_trouble = False
        except _TROUBLE as error:
            if not self._in_trouble:
                self._warn(
                    f"{self._uri}: cannot be written ({storage.words(error)}); the search goes on in {self._run}"
                )
            self._in_trouble = True

    def leave(self) -> None:
        """Copy the rest, if the URI is still held by this driver."""
        try:
            if self._hold.keep():
                self.push()
        except _TROUBLE as error:
            raise RaycnnError(
                f"--run {self._uri}: could not be brought up to date ({storage.words(error)}). The run is whole in "
                f"{self._run}; the same command copies it."
            ) from error

    def push(self) -> None:
        """Copy what has changed; the journal as it was before the other files, so that what it tells of is there.
        Ends where the URI is no longer this driver's."""
        told = _whole_lines(self._run / JOURNAL)
        before = dict(self._copies)
        for path in sorted(self._run.rglob("*")):
            name = path.relative_to(self._run).as_posix()
            if name == JOURNAL or _stays(name) or not path.is_file():
                continue
            try:
                stamp = _stamp(path)
                if self._copies.get(name, [[]])[0] == stamp:
                    continue
                content = path.read_bytes()
            except FileNotFoundError:  # gone since
                continue
            if not self._hold.keep(PERIOD_S):
                return
            storage.write(self._there, name, content)
            self._copies[name] = [stamp, _stamp_there(self._there.get_file_info(name))]
        if self._copies != before:
            self._write_copies()
        if len(told) != self._told_there and self._hold.keep(PERIOD_S):
            storage.write(self._there, JOURNAL, told)
            self._told_there = len(told)

    def _write_copies(self) -> None:
        write_atomically(self._run / COPIES, json.dumps(self._copies))


def _read_copies(path: Path) -> dict[str, list[list[int]]]:
    """By name, the stamps of a file here and at the URI when they were the same."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not yet, or cut off with the power
        return {}


def _is_wanted(path: Path, there: list[int], known: list[list[int]] | None, everything: bool) -> bool:
    """Whether the URI's file is to come here. known: the stamps of both when they were the same; None: never."""
    if everything:
        return True
    here = _stamp(path) if path.exists() else None
    if known is not None and known[1] == there:
        return False  # only here has it changed, or been deleted
    if here is None or (known is not None and known[0] == here):
        return True
    # Both have changed: a driver was killed here, and another may have gone on, which had to wait for SILENCE_S.
    return there[1] > here[1] / 1e9 + SILENCE_S


def _stays(name: str) -> bool:
    """Whether a file has no meaning elsewhere, is being written, or can be made again."""
    path = Path(name)
    return path.name in _LEFT_HERE or path.suffix == PART or name.startswith(("cache/", "probe-", "tune/slots/"))


def _whole_lines(journal: Path) -> bytes:
    content = journal.read_bytes() if journal.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _stamp_there(file: Any) -> list[int]:
    """In seconds: some stores tell more of them in a listing than of one file."""
    return [file.size or 0, (file.mtime_ns or 0) // 1_000_000_000]
