"""`folder`: one directory of pictures per class, under train/ and under test/ (or val/)."""

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from raycnn.data.cache import Look, Progress, Source
from raycnn.data.dataset import create_images, save_labels
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif"})
TEST_FOLDERS = ("test", "val")
"""Where test images may lie; the first that is there is taken."""
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")  # Pillow knows more, some of which run other programs
_BLOCK = 512  # pictures between two reports of progress
_LOOK_S = 4.0  # for pictures that are read to see whether they can be
# Pillow warns of a picture that, by its header, takes some hundred MB to decode, and refuses twice as much.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def find(spec: DataSpec, root: Path) -> Source:
    """The pictures under root/train/<class>/ and root/test/<class>/ (else root/val/<class>/), at any depth.

    Classes are numbered in the order of their names. Raises DataError where a split, a class or a class's pictures are
    missing.
    """
    folders = {"train": _split_folder(root, ["train"]), "test": _split_folder(root, TEST_FOLDERS)}
    names = {split: _class_names(folder) for split, folder in folders.items()}
    if names["train"] != names["test"]:
        only = [
            f"{name} only in {split}" for split in names for name in names[split] if name not in _other(names, split)
        ]
        raise DataError(
            f"{root}: train and {folders['test'].name} differ in classes ({', '.join(only)}). Make them agree."
        )
    if len(names["train"]) < 2:
        raise DataError(f"{folders['train']}: {len(names['train'])} classes, two are needed: one directory for each.")
    _refuse_shared([folder / name for split, folder in folders.items() for name in names[split]])
    pictures = {split: [list(_pictures(folder / name)) for name in names[split]] for split, folder in folders.items()}

    def convert(directory: Path, progress: Progress) -> tuple[tuple[str, ...], bool]:
        for split, by_class in pictures.items():
            _convert(split, by_class, spec.image_px, directory, progress)
        return tuple(names["train"]), True

    files = tuple(path for by_class in pictures.values() for paths in by_class for path in paths)

    def look() -> Look:
        read = _read_some(files, spec.image_px)
        note = "" if read == len(files) else f"the first {read:,} of {len(files):,} pictures were read"
        labels = np.repeat(np.arange(len(names["train"])), [len(paths) for paths in pictures["train"]])
        return Look(labels, sum(len(paths) for paths in pictures["test"]), note=note)

    return Source(spec.name, {"image_px": spec.image_px}, files, convert, look)


def _read_some(paths: Sequence[Path], side_px: int) -> int:
    """Read pictures for some seconds, in order; how many there was time for. Raises DataError for a damaged one."""
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _BLOCK):
            if time.monotonic() - began > _LOOK_S:
                return start
            block = paths[start : start + _BLOCK]
            for _ in pool.map(read_picture, block, [side_px] * len(block)):
                pass
    return len(paths)


def read_picture(path: Path, side_px: int) -> np.ndarray:
    """(side_px, side_px, 3) uint8: the largest square in the middle, resized with antialiasing.

    Read as by `read_rgb`.
    """
    picture = read_rgb(path, 2 * side_px)
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    # Cut first: a picture of 1 x 60,000 pixels would not fit in memory once its shorter side is enlarged.
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((side_px, side_px), Image.Resampling.BICUBIC))


def read_rgb(path: Path, least_px: int | None = None) -> Image.Image:
    """The picture in RGB, 8 bits. least_px: a JPEG may come smaller, with sides of at least that.

    Grey, palette and transparent pictures become RGB; transparency is dropped. As in the usual ImageNet readers, a
    camera's note on orientation is ignored. Raises DataError for a damaged picture, for one of more than 8 bits, and,
    before it is decoded, for one of too many pixels.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with Image.open(path, formats=_FORMATS) as opened:
            if opened.mode[0] in "IF":
                raise ValueError("it has more than 8 bits per channel; save it with 8")
            if least_px:
                opened.draft("RGB", (least_px, least_px))  # JPEG: decodes large pictures at a fraction of their size
            # Through RGBA, because Pillow warns where a palette's transparency is dropped directly.
            return opened.convert("RGBA").convert("RGB") if "transparency" in opened.info else opened.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        words = f"it claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise DataError(f"{path}: not a readable picture ({words}). Shrink or remove it.") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: not a readable picture ({error}). Replace or remove it.") from error


def _split_folder(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    wanted = " or ".join(f"{name}/" for name in names)
    raise DataError(
        f"{root}: has no {wanted}. Put one directory per class in {root / names[0]}, or name another --data."
    )


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _other(names: dict[str, list[str]], split: str) -> list[str]:
    return names["test" if split == "train" else "train"]


def _pictures(folder: Path) -> Iterator[Path]:
    """Every picture below `folder`, once, in a fixed order; hidden files and other suffixes are no pictures.

    Raises DataError for what would be missed, or would bring in pictures of elsewhere: a link out of the folder or to
    nothing, a picture's name that is no file, a folder that cannot be read.
    """
    own, empty, waiting = folder.resolve(), True, [folder]
    while waiting:
        directory = waiting.pop()
        with _told(directory):
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        below = []
        for entry in entries:  # of a file that is no link nothing more is asked: there may be millions
            path = Path(entry.path)
            if entry.is_symlink() and not _leads_within(path, own):
                continue
            if entry.is_dir():
                below.append(path)
            elif _is_picture(path):
                if not entry.is_file():
                    raise DataError(f"{path}: has a picture's name and is no file. Remove it.")
                empty = False
                yield path
        waiting += reversed(below)
    if empty:
        raise DataError(f"{folder}: no picture ({', '.join(sorted(SUFFIXES))}). Add some or remove the class.")


def _leads_within(link: Path, own: Path) -> bool:
    """Whether a link in a class's folder leads to something in there that is not met where it lies, too.

    Raises DataError where it leads out of the folder or to nothing.
    """
    is_folder = link.is_dir()
    if not is_folder and not _is_picture(link):
        return False
    with _told(link):
        link.stat()
        real = link.resolve()
    if not real.is_relative_to(own):
        raise DataError(
            f"{link}: is a link to {real}, outside of its class's folder. Put the pictures themselves there, or remove "
            "it."
        )
    return not is_folder and not _is_picture(real)


def _is_picture(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says, and what a loop of links raises, as DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: is a link to nothing. Remove it.") from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a link to itself"
        raise DataError(f"{path}: cannot be read ({reason}). Mend its rights, or remove it.") from None


def _refuse_shared(folders: Sequence[Path]) -> None:
    """Raises DataError where a class's folder is, or holds, that of another class or split: by a link."""
    by_place: dict[Path, Path] = {}
    for folder in folders:
        other = by_place.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise DataError(f"{folder}: is the same folder as {other}, by a link. Remove one of them.")
    for place, folder in by_place.items():
        for parent in place.parents:
            if parent in by_place:
                raise DataError(
                    f"{folder}: lies in {by_place[parent]}, by a link: its pictures would be of both. Remove it."
                )


def _convert(split: str, by_class: list[list[Path]], side_px: int, directory: Path, progress: Progress) -> None:
    paths = [path for of_class in by_class for path in of_class]
    labels = np.repeat(np.arange(len(by_class)), [len(of_class) for of_class in by_class])
    images = create_images(directory, split, (len(paths), side_px, side_px, 3))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes without holding the interpreter lock
        for start in range(0, len(paths), _BLOCK):
            progress(f"reading {split} pictures", start, len(paths))
            block = paths[start : start + _BLOCK]
            for offset, picture in enumerate(pool.map(read_picture, block, [side_px] * len(block))):
                images[start + offset] = picture
    images.flush()
    save_labels(directory, split, labels)
    progress(f"reading {split} pictures", len(paths), len(paths))
