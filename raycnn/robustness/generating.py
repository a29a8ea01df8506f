"""A whole CIFAR-10-C or CIFAR-10-P of any images, generated in the authors' layout by several processes.

An image comes out the same whichever process makes it, and whenever.
"""

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from raycnn import __version__
from raycnn.data.cache import Progress
from raycnn.data.dataset import DataSet, ImageSet, open_cached
from raycnn.data.download import require_space
from raycnn.errors import ClusterError, DataError, SpecError
from raycnn.files import replacing
from raycnn.robustness.archives import open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from raycnn.robustness.frost import PROCEDURAL, Textures
from raycnn.robustness.origin import claim
from raycnn.robustness.perturbations import FRAMES, PERTURBATIONS, perturb
from raycnn.robustness.processes import carried_out

Kind = Literal["c", "p"]
SplitName = Literal["test", "train"]
_MADE: dict[Kind, str] = {"c": "corrupted images", "p": "frames"}
_CHUNK_PIXELS = 1 << 20  # of one task: it takes a second or so, and megabytes of memory


@dataclass(frozen=True, slots=True)
class Generation:
    """What is to be made. kind: c, corruptions at five severities, or p, perturbations as videos; names: which.

    data: `DataSet.directory`. n: so many images of the split, from the first. textures: of frost, which without them
    has procedural ice.
    """

    kind: Kind
    names: tuple[str, ...]
    data: Path
    split: SplitName
    n: int
    seed: int
    textures: Textures | None = None

    def source(self) -> ImageSet:
        data = open_cached(self.data)
        return data.train if self.split == "train" else data.open_test()

    def frost(self) -> str | dict[str, Any]:
        """Which ice there is, for the manifest."""
        if self.textures is None:
            return PROCEDURAL
        return {"pictures": list(self.textures.names), "digest": self.textures.digest}


def choose(kind: Kind, names: Sequence[str] | None) -> tuple[str, ...]:
    """Those of `names` that the kind has, in its own order; all where none are named."""
    return tuple(name for name in (CORRUPTIONS if kind == "c" else PERTURBATIONS) if names is None or name in names)


def generate(wanted: Generation, out: Path, workers: int, progress: Progress, say: Callable[[str], None]) -> None:
    """Write a .npy file for each name into `out`, with labels.npy, README.txt and manifest.json beside them.

    A file appears whole or not at all; those that are there, made with the same settings, are kept.
    progress: called with images. say: called with a line for each file. Raises DataError where `out` holds other files
    or there is no room, SpecError where the data set has fewer images, ClusterError where a process is killed.
    """
    source = wanted.source()
    if wanted.n > len(source.labels):
        raise SpecError(f"{wanted.n:,} images are wanted, the {wanted.split} split has {len(source.labels):,}.")
    side = source.images.shape[1]
    if wanted.textures and "frost" in wanted.names:
        wanted.textures.require(side, side)
    labels = np.asarray(source.labels[: wanted.n])
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            claim(out, _settings(wanted, open_cached(wanted.data), side))
            _save_labels(out, np.tile(labels, len(SEVERITIES)) if wanted.kind == "c" else labels)
            _make_files(wanted, side, out, workers, progress, say)
    except OSError as error:
        raise DataError(f"{out}: cannot be filled ({error}). Mend that, or name another folder.") from error
    except BrokenProcessPool as error:
        raise ClusterError(
            f"{out}: a worker process died, perhaps for want of memory. Start again, with fewer --workers."
        ) from error
    (open_corruptions if wanted.kind == "c" else open_perturbations)(out, labels, side)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{out}: another process is filling it. Wait for it, or name another folder.") from None
    try:
        yield
    finally:
        lock.release()


def _settings(wanted: Generation, data: DataSet, side: int) -> dict[str, Any]:
    settings = {
        "raycnn": __version__,
        "set": wanted.kind,
        "data": data.name,
        "digest": data.digest,
        "verified": data.verified,
        "split": wanted.split,
        "images": wanted.n,
        "image_px": side,
        "seed": wanted.seed,
    }
    return settings | ({"frost": wanted.frost()} if "frost" in wanted.names else {})


def _save_labels(out: Path, labels: np.ndarray) -> None:
    """As the official ones, one byte for each, where that is enough."""
    with replacing(out / "labels.npy") as file:
        np.save(file, labels.astype(np.uint8 if labels.max() < 256 else np.int64))


@dataclass(frozen=True, slots=True)
class _Task:
    """Images first, first + 1, … of a file: `count` of them, at a severity (0 for videos), written at byte `offset`."""

    name: str
    part: Path
    severity: int
    first: int
    count: int
    offset: int


def _make_files(
    wanted: Generation, side: int, out: Path, workers: int, progress: Progress, say: Callable[[str], None]
) -> None:
    for part in out.glob(".*.part"):  # of a run that was killed
        part.unlink()
    shapes = {name: _shape(wanted, name, side) for name in wanted.names}
    missing = [name for name, shape in shapes.items() if not _is_whole(out / f"{name}.npy", shape)]
    if len(missing) < len(shapes):
        say(f"{len(shapes) - len(missing)} of {len(shapes)} files are there already")
    images = {name: math.prod(shapes[name][:-3]) for name in missing}
    require_space(out, sum(math.prod(shapes[name]) for name in missing), "the files take")
    written, done, left = len(shapes) - len(missing), 0, {name: images[name] for name in missing}
    tasks = (task for name in missing for task in _tasks(wanted, name, shapes[name], out / f".{name}.npy.part"))
    try:
        with contextlib.closing(carried_out(tasks, partial(_Maker, wanted), workers)) as ended:
            for task in ended:
                made = task.count * (1 if wanted.kind == "c" else FRAMES[task.name])
                done += made
                left[task.name] -= made
                if not left[task.name]:
                    _finish(task.part, out / f"{task.name}.npy")
                    written += 1
                    say(f"{task.name}.npy is written, {written} of {len(shapes)}")
                progress(f"generating {_MADE[wanted.kind]}", done, sum(images.values()))
    finally:
        for part in out.glob(".*.part"):
            part.unlink()


def _shape(wanted: Generation, name: str, side: int) -> tuple[int, ...]:
    if wanted.kind == "c":
        return (len(SEVERITIES) * wanted.n, side, side, 3)
    return (wanted.n, FRAMES[name], side, side, 3)


def _header(shape: tuple[int, ...]) -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return written.getvalue()


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    header = _header(shape)
    if not path.is_file() or path.stat().st_size != len(header) + math.prod(shape):
        return False
    with path.open("rb") as opened:
        return opened.read(len(header)) == header


def _tasks(wanted: Generation, name: str, shape: tuple[int, ...], part: Path) -> Iterator[_Task]:
    """Creates the file `part` in its full length, then gives what is to be written there."""
    header = _header(shape)
    with part.open("wb") as opened:
        opened.write(header)
        opened.truncate(len(header) + math.prod(shape))
    row_bytes = math.prod(shape[1:])
    most = max(1, 3 * _CHUNK_PIXELS // row_bytes)
    for severity in SEVERITIES if wanted.kind == "c" else (0,):
        rows_before = max(0, severity - 1) * wanted.n
        for first in range(0, wanted.n, most):
            offset = len(header) + (rows_before + first) * row_bytes
            yield _Task(name, part, severity, first, min(most, wanted.n - first), offset)


def _finish(part: Path, path: Path) -> None:
    with part.open("rb") as opened:
        os.fsync(opened.fileno())
    part.replace(path)


class _Maker:
    """Carries out tasks, in whichever process."""

    def __init__(self, wanted: Generation) -> None:
        self._wanted, self._images = wanted, wanted.source().images

    def __call__(self, task: _Task) -> None:
        images, seed = np.array(self._images[task.first : task.first + task.count]), self._wanted.seed
        if self._wanted.kind == "c":
            made = corrupt(images, task.name, task.severity, seed, task.first, self._wanted.textures)
        else:
            made = perturb(images, task.name, seed, task.first)
        # Written, not mapped: a disk that fills up is then an error, not a SIGBUS.
        with task.part.open("r+b") as opened:
            opened.seek(task.offset)
            opened.write(np.ascontiguousarray(made).data)
