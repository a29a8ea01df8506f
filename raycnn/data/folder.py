"""`folder`: one directory of pictures per class, under train/ and under test/ (or val/)."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raycnn.data.cache import Look, Progress, Source
from raycnn.data.dataset import create_images, save_labels
from raycnn.data.pictures import is_hidden, is_picture, read_picture, shown
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

TEST_FOLDERS = ("test", "val")
"""Where test images may lie; the first that is there is taken."""
_BLOCK = 512  # pictures between two reports of progress
_NAMED = 8  # kinds of files left out that are named
_LONGEST_SUFFIX = 10
_LOOK_S = 4.0  # for pictures that are read to see whether they can be

LeftOut = Counter[tuple[str, str]]
"""How many of what are no pictures: ("file", "with .txt"), ("hidden folder", "")."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies in a folder of pictures. paths: by split, of each class. left_out: in words, of what is not read."""

    class_names: tuple[str, ...]
    paths: dict[str, list[list[Path]]]
    left_out: str


def find(spec: DataSpec, root: Path) -> Source:
    """The pictures that `survey` finds, to be read at `spec.image_px`. Raises as it does."""
    tree = survey(root)
    flat = {split: [path for paths in by_class for path in paths] for split, by_class in tree.paths.items()}

    def convert(directory: Path, progress: Progress) -> tuple[tuple[str, ...], bool]:
        for split, by_class in tree.paths.items():
            sizes = [len(paths) for paths in by_class]
            _convert(split, flat[split], np.repeat(np.arange(len(sizes)), sizes), spec.image_px, directory, progress)
        return tree.class_names, True

    files = (*flat["train"], *flat["test"])

    def look() -> Look:
        read = _read_some(files, spec.image_px)
        note = "" if read == len(files) else f"the first {read:,} of {len(files):,} pictures were read"
        labels = np.repeat(np.arange(len(tree.class_names)), [len(paths) for paths in tree.paths["train"]])
        return Look(labels, len(flat["test"]), note=note, class_names=tree.class_names, left_out=tree.left_out)

    return Source(
        spec.name,
        {"image_px": spec.image_px},
        files,
        convert,
        look,
        image_name=lambda split, index: shown(flat[split][index].relative_to(root)),
        left_out=tree.left_out,
    )


def survey(root: Path) -> Tree:
    """The pictures under root/train/<class>/ and root/test/<class>/ (else root/val/<class>/), at any depth, unopened.

    Classes are numbered in the order of their names. Raises DataError where a split, a class or a class's pictures are
    missing, and as `_pictures` does.
    """
    left_out: LeftOut = Counter()
    folders = {"train": _split_folder(root, ["train"]), "test": _split_folder(root, TEST_FOLDERS)}
    names = {split: _class_names(folder, left_out) for split, folder in folders.items()}
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
    paths = {split: [_pictures(folder / name, left_out) for name in names[split]] for split, folder in folders.items()}
    for name in TEST_FOLDERS:
        if folders["test"].name != name and (root / name).is_dir():
            left_out["folder", f"{name}, for there is {folders['test'].name}"] += 1
    return Tree(tuple(names["train"]), paths, _in_words(left_out))


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


def _split_folder(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    wanted = " or ".join(f"{name}/" for name in names)
    raise DataError(
        f"{root}: has no {wanted}. Put one directory per class in {root / names[0]}, or name another --data."
    )


def _class_names(folder: Path, left_out: LeftOut) -> list[str]:
    """Changes `left_out`. In order. Raises DataError for a link to nothing, and for a name that cannot be shown."""
    names = []
    with _told(folder):
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if is_hidden(entry.name):
            left_out[_hidden_kind(entry)] += 1
            continue
        with _told(path):
            path.stat()
        if not entry.is_dir():
            left_out["file", "in no class's folder"] += 1
        elif shown(entry.name) != entry.name:
            raise DataError(f"{shown(path)}: a class's name must be of characters that can be shown. Rename it.")
        else:
            names.append(entry.name)
    return names


def _other(names: dict[str, list[str]], split: str) -> list[str]:
    return names["test" if split == "train" else "train"]


def _pictures(folder: Path, left_out: LeftOut) -> list[Path]:
    """Changes `left_out`. Every picture below `folder`, once, in a fixed order.

    What is hidden is left out, and what has another suffix. Raises DataError for what would be missed, or would bring
    in pictures of elsewhere: a link out of the folder or to nothing, a picture's name that is no file, a folder that
    cannot be read.
    """
    own, waiting = folder.resolve(), [folder]
    found: list[Path] = []
    by_link: set[Path] = set()
    others: LeftOut = Counter()
    while waiting:
        directory = waiting.pop()
        with _told(directory):
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        below = []
        for entry in entries:  # of a file that is no link nothing more is asked: there may be millions
            path, is_link = Path(entry.path), entry.is_symlink()
            if is_hidden(entry.name):
                others[_hidden_kind(entry)] += 1
                continue
            is_folder = path.is_dir() if is_link else entry.is_dir()
            if not is_folder and not is_picture(path):
                others["file", _suffix_words(path)] += 1
                continue
            if is_link:
                real = _within(path, own)
                if is_folder and any(map(is_hidden, real.relative_to(own).parts)):
                    raise DataError(
                        f"{shown(path)}: is a link to a hidden folder. Put its pictures there, or remove it."
                    )
                if is_folder or real in by_link or _is_met(real.relative_to(own)):
                    continue
                by_link.add(real)
            if is_folder:
                below.append(path)
            elif not entry.is_file():
                raise DataError(f"{shown(path)}: has a picture's name and is no file. Remove it.")
            else:
                found.append(path)
        waiting += reversed(below)
    if not found:
        seen = f" (left out: {_in_words(others)})" if others else ""
        raise DataError(f"{shown(folder)}: no picture{seen}. Add some, as PNG or JPEG, or remove the class.")
    left_out.update(others)
    return found


def _hidden_kind(entry: os.DirEntry) -> tuple[str, str]:
    return ("hidden folder" if entry.is_dir(follow_symlinks=False) else "hidden file", "")


def _suffix_words(path: Path) -> str:
    suffix = shown(path.suffix.lower())
    if len(suffix) > _LONGEST_SUFFIX:
        return "with another suffix"
    return f"with {suffix}" if suffix else "without suffix"


def _in_words(left_out: LeftOut) -> str:
    """ "3 files with .txt, 1 hidden folder"; empty for nothing."""
    by_count = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{n:,} {noun}{'s' * (n != 1)} {which}".rstrip() for (noun, which), n in by_count[:_NAMED]]
    if rest := sum(n for _, n in by_count[_NAMED:]):
        words.append(f"{rest:,} of other kinds")
    return ", ".join(words)


def _within(link: Path, own: Path) -> Path:
    """Where a link in a class's folder leads to. Raises DataError where that is outside of the folder, or nothing."""
    with _told(link):
        link.stat()
        real = link.resolve()
    if not real.is_relative_to(own):
        raise DataError(
            f"{shown(link)}: is a link to {shown(real)}, outside of its class's folder. Put the pictures themselves "
            "there, or remove it."
        )
    return real


def _is_met(place: Path) -> bool:
    """Whether the file at that place in a class's folder is read where it lies."""
    return is_picture(place) and not any(map(is_hidden, place.parts))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says, and what a loop of links raises, as DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: is a link to nothing. Remove it.") from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a link to itself"
        raise DataError(f"{shown(path)}: cannot be read ({reason}). Mend its rights, or remove it.") from None


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


def _convert(
    split: str, paths: list[Path], labels: np.ndarray, side_px: int, directory: Path, progress: Progress
) -> None:
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
