"""The official CIFAR-10-C, CIFAR-10-P and CIFAR-100-C: downloaded, verified, unpacked without trust, checked.

Hendrycks & Dietterich 2019, arXiv:1903.12261; https://zenodo.org/records/2535967 and, for CIFAR-100-C,
https://zenodo.org/records/3555552.
"""

import contextlib
import json
import math
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from raycnn.data.cache import Progress
from raycnn.data.download import download, file_md5, part_of, require_space
from raycnn.errors import DataError
from raycnn.files import write_atomically
from raycnn.robustness.archives import open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES
from raycnn.robustness.origin import MANIFEST, OFFICIAL_MARK
from raycnn.robustness.perturbations import FRAMES

_TRIES = 20  # connections for one download
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 1024  # of a .npy file, at most; numpy writes 80 or 128
_LABEL_BYTES = 8  # at most; the official ones have 1


@dataclass(frozen=True, slots=True)
class Official:
    """One official release, of n test images."""

    url: str
    md5: str
    n: int = 10_000

    @property
    def archive(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Its directory, in the archive and in the data directory."""
        return self.archive.removesuffix(".tar")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """File name -> shape. CIFAR-10-P has no labels (https://github.com/hendrycks/robustness/issues/15)."""
        if self.folder.endswith("-P"):
            return {f"{name}.npy": (self.n, frames, 32, 32, 3) for name, frames in FRAMES.items()}
        rows = len(SEVERITIES) * self.n
        return {"labels.npy": (rows,)} | {f"{name}.npy": (rows, 32, 32, 3) for name in CORRUPTIONS}

    @property
    def most_bytes(self) -> int:
        """Of all files, and nearly of their archive, which adds two blocks of 512 to each."""
        return sum(_most_bytes(shape) + 1024 for shape in self.shapes.values())


# Checksums as in Zenodo's records; for the two with labels also in TorchUncertainty's cifar_c.py.
OFFICIAL = {
    "cifar10-c": Official(
        "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"
    ),
    "cifar10-p": Official(
        "https://zenodo.org/records/2535967/files/CIFAR-10-P.tar", "125d6775afc5846ea84584d7524dedff"
    ),
    "cifar100-c": Official(
        "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"
    ),
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """archive: the user's own, which is kept. verified: the files are from an archive whose MD5 was right."""

    directory: Path
    files: int
    n: int
    was_there: bool
    verified: bool
    archive: Path | None


def fetch(name: str, root: Path, progress: Progress, mirror: str | None = None) -> Fetched:
    """Put the official set `name` of `OFFICIAL` into its directory in `root`, which appears whole or not at all.

    An archive that lies in `root` is taken and kept; else it is downloaded, from `mirror` if one is named, and deleted
    when it is unpacked. One process fetches, others wait. progress: called with bytes.
    Raises DataError, one line, where network or disk fail, or anything is not as it should be.
    """
    official = OFFICIAL[name]
    directory, archive = root / official.folder, root / official.archive
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root / f".{official.archive}.lock", progress):
            if directory.exists() and any(directory.iterdir()):
                return _there(official, directory)
            brought = archive.is_file()
            _obtain(official, archive, brought, mirror or official.url, progress)
            _unpack(official, archive, directory, progress)
            if not brought:
                archive.unlink()
    except OSError as error:
        raise DataError(
            f"{root}: cannot be filled ({error}). Mend that, or name another folder with --data."
        ) from error
    return Fetched(directory, len(official.shapes), official.n, False, True, archive if brought else None)


def check_complete(official: Official, directory: Path) -> None:
    """Raises DataError where `directory` is not the whole official set, by names, shapes, types and labels."""
    shapes = official.shapes
    missing = [name for name in shapes if not (directory / name).is_file()]
    if missing:
        raise DataError(f"{directory}: {', '.join(missing)} missing, so it is not all of {official.folder}.")
    archive = open_corruptions(directory) if "labels.npy" in shapes else open_perturbations(directory)
    if archive.n != official.n:
        raise DataError(f"{directory}: holds {archive.n:,} images, {official.folder} has {official.n:,}.")


@contextlib.contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process that fetches the same", 0, 0)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _there(official: Official, directory: Path) -> Fetched:
    """What stands in the place of the files. It is never changed or deleted, for it may be the user's own."""
    mend = f"Move it away to have {official.folder} fetched here, or name another folder with --data."
    if (directory / MANIFEST).exists():
        raise DataError(f"{directory}: was generated by raycnn corrupt and is not the official set. {mend}")
    try:
        check_complete(official, directory)
    except DataError as error:
        raise DataError(f"{error} {mend}") from error
    return Fetched(directory, len(official.shapes), official.n, True, _marked(official, directory), None)


def _marked(official: Official, directory: Path) -> bool:
    try:
        return json.loads((directory / OFFICIAL_MARK).read_text(encoding="utf-8"))["md5"] == official.md5
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _obtain(official: Official, archive: Path, brought: bool, url: str, progress: Progress) -> None:
    """The archive, with the right MD5, and room for what it holds."""
    part = part_of(archive)
    have = part.stat().st_size if part.exists() else 0
    to_come = 0 if brought else max(0, official.most_bytes - have)
    require_space(archive.parent, to_come + official.most_bytes, f"{archive.name} and its files take another")
    if not brought:
        mend = f"Put {archive.name} into {archive.parent}, or its files into {archive.parent / official.folder}."
        # Half as much again, for an archive may hold more than is taken from it.
        download(url, archive, official.md5, mend, progress, official.most_bytes * 3 // 2, _TRIES)
    elif file_md5(archive, progress) != official.md5:
        raise DataError(f"{archive}: not the official archive (its MD5 differs). Delete it and start again.")


def _unpack(official: Official, archive: Path, directory: Path, progress: Progress) -> None:
    """Into a temporary folder, checked there, then renamed. The caller holds the lock."""
    prefix = f".{official.folder}-"
    for leftover in directory.parent.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=prefix, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary, official.folder)
        made.mkdir()
        try:
            _extract(official, archive, made, progress)
            check_complete(official, made)
        except (tarfile.TarError, EOFError, DataError) as error:
            found = " ".join(str(error).split()).replace(f"{made}{os.sep}", "").replace(f"{made}: ", "").rstrip(".")
            reason = found if isinstance(error, DataError) else f"not a readable archive: {found}"
            raise DataError(
                f"{archive}: not what it should be ({reason}). Its MD5 is right, so it would come the same again: "
                "please report this, and unpack it yourself if you trust it."
            ) from error
        mark = {"archive": official.archive, "md5": official.md5}
        write_atomically(made / OFFICIAL_MARK, json.dumps(mark))
        made.rename(directory)


def _extract(official: Official, archive: Path, made: Path, progress: Progress) -> None:
    """Write the members that the set has, and no others, under names that we choose, with sizes that we know.

    So nothing can leave the folder or fill the disk, whatever paths, links, devices or sizes an archive names.
    """
    total, done = sum(_most_bytes(shape) for shape in official.shapes.values()), 0
    with tarfile.open(archive, "r:") as opened:  # not compressed, so it cannot swell
        for member in opened:
            name = member.name.removeprefix("./").removeprefix(f"{official.folder}/")
            if member.name.removeprefix("./") != f"{official.folder}/{name}" or name not in official.shapes:
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                raise DataError(f"{name} is no plain file.")
            if (made / name).exists():
                raise DataError(f"{name} is there twice.")
            if member.size > _most_bytes(official.shapes[name]):
                raise DataError(f"{name} claims to have {member.size:,} bytes.")
            content = opened.extractfile(member)
            assert content is not None  # of a plain file
            with content, (made / name).open("xb") as written:
                while block := content.read(_BLOCK_BYTES):
                    written.write(block)
                    done += len(block)
                    progress(f"unpacking {archive.name}", done, total)
                os.fsync(written.fileno())
    progress(f"unpacking {archive.name}", total, total)


def _most_bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * (_LABEL_BYTES if len(shape) == 1 else 1) + _HEADER_BYTES
