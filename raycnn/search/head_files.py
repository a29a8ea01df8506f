"""The head's files for nodes that do not share its disk: they travel through Ray, and the head alone keeps them."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from raycnn.errors import CheckpointError
from raycnn.files import disk_fault, fault_words, write_atomically
from raycnn.slots.messages import UnfitEverywhere, UnfitNode
from raycnn.slots.pool import HEAD
from raycnn.temporary import temporary_folder

Stamp = tuple[int, int]
"""Size and time of the last change of a file: equal on all nodes that share it."""

_OF_A_TRAINING = ("checkpoint.pt", "metrics.jsonl")


@dataclass(frozen=True, slots=True)
class HeadFiles:
    """How a node reaches the head's files. mark: a file of the run directory, and word, its content: a node that reads
    it there and may write beside it shares the directory."""

    actor: Any
    mark: Path
    word: str

    def shared_here(self) -> bool:
        """Whether this node shares the run directory."""
        try:
            return self.mark.read_text(encoding="utf-8") == self.word and os.access(self.mark.parent, os.W_OK)
        except OSError:
            return False

    def write(self, path: Path, content: bytes) -> None:
        """Raises CheckpointError, or UnfitEverywhere where the head's disk is at fault."""
        try:
            ray.get(self.actor.write.remote(path, content))
        except RayTaskError as error:
            if fault := disk_fault(error.cause):
                raise UnfitEverywhere(f"{fault_words(fault)} (on the head)") from None
            if isinstance(error.cause, OSError):
                raise CheckpointError(
                    f"{path}: cannot be written by the head ({error.cause.strerror}). Free space there."
                ) from None  # or this node would be blamed
            raise

    @contextlib.contextmanager
    def file(self, path: Path) -> Iterator[Path]:
        """`path` itself where this node has the same file, else a copy."""
        stamp: Any = ray.get(self.actor.stamp.remote(path))
        if stamp is None or stamp == _stamp(path):
            yield path
            return
        with temporary_folder() as place:
            copy = place / path.name
            content: Any = ray.get(self.actor.read.remote(path))
            copy.write_bytes(content)
            yield copy


@contextlib.contextmanager
def training_directory(files: HeadFiles | None, directory: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Where a training works, and a function that keeps what has changed there: `directory` itself, or (`files`) a copy
    on this node, whose changes are sent to the head.

    Raises UnfitNode where this node cannot hold the copy, UnfitEverywhere where the run's own disk is full or broken,
    CheckpointError where the head cannot take it for another reason.
    """
    if files is None:
        with _fit(directory, UnfitEverywhere):
            yield directory, lambda: None
        return
    with temporary_folder() as copy:
        with _fit(copy, UnfitNode):
            for name in _OF_A_TRAINING:
                content: Any = ray.get(files.actor.read.remote(directory / name))
                if content is not None:
                    (copy / name).write_bytes(content)
        sent = {name: _stamp(copy / name) for name in _OF_A_TRAINING}

        def send() -> None:
            for name in _OF_A_TRAINING:
                if (stamp := _stamp(copy / name)) != sent[name]:
                    files.write(directory / name, (copy / name).read_bytes())
                    sent[name] = stamp

        with _fit(copy, UnfitNode):
            yield copy, send


def serve_head_files(run: Path) -> HeadFiles:
    """From now until this process leaves Ray. `run` has been held."""
    # It keeps nothing, and what it writes is whole or not there: one that dies is replaced, and asked again.
    lasting = {"max_restarts": -1, "max_task_retries": -1}
    actor = ray.remote(num_cpus=0)(_Files).options(resources=HEAD, max_concurrency=16, **lasting).remote()
    mark = run / "run.holder.json"
    return HeadFiles(actor, mark, mark.read_text(encoding="utf-8"))


class _Files:
    """The actor on the head."""

    def read(self, path: Path) -> bytes | None:
        return path.read_bytes() if path.exists() else None

    def write(self, path: Path, content: bytes) -> None:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def stamp(self, path: Path) -> Stamp | None:
        return _stamp(path)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _fit(directory: Path, unfit: type[UnfitNode] | type[UnfitEverywhere]) -> Iterator[None]:
    """A disk that is full or broken, as what it is: no fault of the training."""
    try:
        yield
    except Exception as error:
        if fault := disk_fault(error):
            fault.filename = fault.filename or str(directory)
            raise unfit(f"{fault_words(fault)} (on {os.uname().nodename})") from error
        raise
