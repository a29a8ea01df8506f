"""CIFAR-10 and CIFAR-100 in the official Python layout. Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock

from raycnn.data.batch_file import read_batch
from raycnn.data.cache import Look, Progress, Source
from raycnn.data.dataset import SPLITS, digest_of, save_split
from raycnn.data.download import download, file_md5, require_space
from raycnn.errors import DataError
from raycnn.files import refuse_unwritable, replacing
from raycnn.spec.data import DataSpec

_SIDE_PX = 32
_ARCHIVE_AND_FILES_BYTES = 360_000_000  # of either release, as the two below
_TRAIN_IMAGES, _TEST_IMAGES = 50_000, 10_000


@dataclass(frozen=True, slots=True)
class Official:
    """One official release. train, test, meta: file name -> MD5."""

    url: str
    archive_md5: str
    archive_bytes: int
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    labels_key: str
    names_key: str
    classes: int

    @property
    def files(self) -> dict[str, str]:
        return self.train | self.test | self.meta


# Checksums as in torchvision.datasets.CIFAR10 and CIFAR100.
OFFICIAL = {
    "cifar10": Official(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        archive_bytes=170_498_071,
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        labels_key="labels",
        names_key="label_names",
        classes=10,
    ),
    "cifar100": Official(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        archive_bytes=169_001_437,
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        labels_key="fine_labels",
        names_key="fine_label_names",
        classes=100,
    ),
}


def find(spec: DataSpec, root: Path, progress: Progress, mirror: str | None = None) -> Source:
    """The official files in root/<folder>, or in root itself. Missing ones are downloaded where spec.verify.

    mirror: address of the archive, where the official one is not to be asked; its checksum has to hold all the same.
    Raises DataError where files are missing and cannot be downloaded.
    """
    official = OFFICIAL[spec.name]
    folder = _folder(official, root)
    if _missing(official, folder):
        _refuse_unverified(spec, official, folder)
        _obtain(official, folder, mirror or official.url, progress)

    def convert(directory: Path, progress: Progress) -> tuple[tuple[str, ...], bool]:
        batches = _batches(official, folder, spec.verify, progress)
        for split, images, labels in _splits(official, folder, batches):
            save_split(directory, split, images, labels)
        return _class_names(folder, batches, official), spec.verify

    def look() -> Look:
        batches = _batches(official, folder, spec.verify, lambda what, done, total: None)
        _class_names(folder, batches, official)
        splits = {split: (images, labels) for split, images, labels in _splits(official, folder, batches)}
        return Look(splits["train"][1], len(splits["test"][1]), digest_of(splits[split] for split in SPLITS))

    files = tuple(folder / file for file in official.files)
    return Source(spec.name, {"verify": spec.verify}, files, convert, look)


def look_without_files(spec: DataSpec, root: Path) -> Look | None:
    """The official data set, where `find` would first have to download or unpack it; None where all files are there.

    Raises DataError for what it would stop for before it downloads.
    """
    official = OFFICIAL[spec.name]
    folder = _folder(official, root)
    if not _missing(official, folder):
        return None
    _refuse_unverified(spec, official, folder)
    archive = folder.parent / _archive_name(official)
    try:
        refuse_unwritable(folder.parent)
        if archive.is_file():
            _refuse_unofficial(official, archive)
        else:
            require_space(folder.parent, _ARCHIVE_AND_FILES_BYTES, f"{archive.name} and its files take")
    except OSError as error:
        raise _unfilled(official, folder, error) from error
    return official_look(spec, 0 if archive.is_file() else official.archive_bytes)


def official_look(spec: DataSpec, download_bytes: int) -> Look:
    """Of a release that is not here: all of its classes are of one size."""
    labels = np.arange(_TRAIN_IMAGES) % OFFICIAL[spec.name].classes
    return Look(labels, _TEST_IMAGES, download_bytes=download_bytes)


def _refuse_unverified(spec: DataSpec, official: Official, folder: Path) -> None:
    """Only what is verified is downloaded."""
    if not spec.verify:
        raise DataError(
            f"{folder}: {', '.join(_missing(official, folder))} missing. Put the official layout there or name its "
            "folder with --data; data.verify: true would download the official files."
        )


def is_complete(name: str, root: Path) -> bool:
    """Whether all files are where `find` looks for them, so that nothing would be downloaded."""
    official = OFFICIAL[name]
    return not _missing(official, _folder(official, root))


def is_there(name: str, root: Path) -> bool:
    """Whether at least one of the files is where `find` looks for them, or the archive that holds them."""
    official = OFFICIAL[name]
    missing = _missing(official, _folder(official, root))
    return len(missing) < len(official.files) or (root / _archive_name(official)).is_file()


def _folder(official: Official, root: Path) -> Path:
    within = root / official.folder
    itself = not within.is_dir() and (
        root.name == official.folder or len(_missing(official, root)) < len(official.files)
    )
    return root if itself else within


def _missing(official: Official, folder: Path) -> list[str]:
    return [file for file in official.files if not (folder / file).is_file()]


def _obtain(official: Official, folder: Path, url: str, progress: Progress) -> None:
    """Put the files that are missing in `folder`, from the archive beside it, which is downloaded if need be."""
    archive = folder.parent / _archive_name(official)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{archive.name}.lock"):
            if not _missing(official, folder):  # another process was faster
                return
            brought = archive.is_file()
            if not brought:
                require_space(folder.parent, _ARCHIVE_AND_FILES_BYTES, f"{archive.name} and its files take")
                download(url, archive, official.archive_md5, _mend(official, folder), progress)
            else:
                _refuse_unofficial(official, archive)
            folder.mkdir(exist_ok=True)
            _unpack(official, archive, folder)
            if not brought:
                archive.unlink()
    except OSError as error:
        raise _unfilled(official, folder, error) from error


def _archive_name(official: Official) -> str:
    return PurePosixPath(official.url).name


def _refuse_unofficial(official: Official, archive: Path) -> None:
    if file_md5(archive) != official.archive_md5:
        raise DataError(f"{archive}: not the official archive (its MD5 differs). Delete it and start again.")


def _unfilled(official: Official, folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot be filled ({error}). {_mend(official, folder)}")


def _mend(official: Official, folder: Path) -> str:
    name = _archive_name(official)
    return f"Put {name}, unpacked or not, into {folder.parent}, or name the folder that holds it with --data."


def _unpack(official: Official, archive: Path, folder: Path) -> None:
    """Write the missing files, each under a name that we choose, so that nothing leaves `folder`."""
    try:
        with tarfile.open(archive) as opened:
            for file in _missing(official, folder):
                member = opened.getmember(f"{official.folder}/{file}")
                content = opened.extractfile(member) if member.isreg() else None
                if content is None:
                    raise DataError(f"{archive}: {member.name} is no plain file. Delete the archive and start again.")
                with content, replacing(folder / file) as written:
                    shutil.copyfileobj(content, written)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise DataError(f"{archive}: not the official archive ({error}). Delete it and start again.") from error


def _batches(official: Official, folder: Path, verify: bool, progress: Progress) -> dict[str, dict[str, Any]]:
    """The content of all files, by their names."""
    batches = {}
    for done, (file, md5) in enumerate(official.files.items()):
        progress(f"reading {folder.name}", done, len(official.files))
        batches[file] = _read(folder / file, md5 if verify else None)
    progress(f"reading {folder.name}", len(official.files), len(official.files))
    return batches


def _splits(
    official: Official, folder: Path, batches: dict[str, dict[str, Any]]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Changes `batches`: what is taken of it goes. Name, images (n, 32, 32, 3) uint8 and labels (n,) int64."""
    for split, names in (("train", official.train), ("test", official.test)):
        parts = [_images_and_labels(folder / file, batches.pop(file), official) for file in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        yield split, images, labels


def _read(path: Path, md5: str | None) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Mend its rights or replace it.") from error
    if md5 is not None:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataError(
                f"{path}: MD5 {found} is not the official {md5}. Replace it by the official file, or take "
                "an unofficial copy knowingly with data.verify: false."
            )
    return read_batch(content, str(path))


def _images_and_labels(path: Path, batch: dict[str, Any], official: Official) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32, 3) uint8 and (n,) int64, checked."""
    missing = [key for key in ("data", official.labels_key) if key not in batch]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}. Is it of another data set? Replace it.")
    data, labels = batch["data"], batch[official.labels_key]
    columns = 3 * _SIDE_PX**2
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != columns:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{path}: data must be uint8 (n, {columns}), got {found}. Replace the file.")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{path}: {official.labels_key} must be a list of whole numbers. Replace the file.")
    if len(labels) != len(data) or not labels:
        raise DataError(f"{path}: {len(data)} images with {len(labels)} labels. Replace the file.")
    if min(labels) < 0 or max(labels) >= official.classes:
        raise DataError(
            f"{path}: labels reach from {min(labels)} to {max(labels)}, must be 0 to {official.classes - 1}. "
            "Replace the file."
        )
    # Stored as a red, a green and a blue plane, each row by row.
    return data.reshape(-1, 3, _SIDE_PX, _SIDE_PX).transpose(0, 2, 3, 1), np.array(labels, np.int64)


def _class_names(folder: Path, batches: dict[str, dict[str, Any]], official: Official) -> tuple[str, ...]:
    (meta,) = official.meta
    path, names = folder / meta, batches[meta].get(official.names_key)
    if not isinstance(names, list) or len(names) != official.classes:
        raise DataError(f"{path}: {official.names_key} must list {official.classes} names. Replace the file.")
    return tuple(name.decode("ascii", "replace") if isinstance(name, bytes) else str(name) for name in names)
