"""Random trees of pictures, links, names and damage: each is read as it was written, or refused in one line.

What must come in is the test's own record. Each picture is of one colour that no other has, so that an image that was
read tells which picture it is.
"""

import io
import os
import random
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

Colour = tuple[int, ...]

TREES = 200
LOSSLESS = {".png": "PNG", ".PNG": "PNG", ".bmp": "BMP", ".dib": "DIB", ".ppm": "PPM", ".pnm": "PPM", ".tif": "TIFF"}
LOSSLESS |= {".tiff": "TIFF", ".qoi": "QOI", ".jp2": "JPEG2000", ".sgi": "SGI", ".JPG": "PNG", ".jfif": "PNG"}
OTHER = (".txt", ".heic", ".json", "", ".PSD", ".eps", ".mp4", ".png~", ".a very long suffix of words")
HIDDEN = (".ipynb_checkpoints", ".git", "@eaDir", "__MACOSX", "Lost+Found")
CLASSES = ("cat", "dog", "été", "a b", "-x", "Z.png", "猫", "{s}", "0", "con", "%d")
STEMS = ("a", "b 1", "été", "猫", "x=y", "-rf", "100%", "a.b.c", "new\nline", "tab\t", "\udcff", "'quote\"", "{s}")
STEMS += ("#1", "n" * 200, "CON", "~", "*", "$HOME", "\x1b[31m")

FAULTS = ("text", "empty", "cut", "deep", "huge", "pipe", "loop", "nothing", "out", "all", "system")


@dataclass
class Tree:
    """What was written. colours: by split, and class within, of the pictures that must be read. left_out: how many
    files and hidden folders are not. faults: what has to be refused."""

    rng: random.Random
    colours: dict[str, dict[str, list[Colour]]] = field(default_factory=lambda: {"train": {}, "test": {}})
    left_out: int = 0
    faults: list[str] = field(default_factory=list)
    number: int = 0

    def name(self, suffix: str) -> str:
        self.number += 1
        return f"{self.rng.choice(STEMS)}{self.number}{suffix}"

    def picture(self, path: Path) -> Colour:
        self.number += 1
        colour = (17 * self.number % 256, self.number // 256, self.number % 256)
        size = (self.rng.randrange(8, 20), self.rng.randrange(8, 20))
        content = io.BytesIO()  # Pillow writes to no file of some of the names
        Image.new("RGB", size, colour).save(content, LOSSLESS.get(path.suffix, "PNG"))
        path.write_bytes(content.getvalue())
        return colour


def written(root: Path, seed: int) -> Tree:
    tree = Tree(rng := random.Random(seed))
    names = sorted(rng.sample(CLASSES, rng.randint(2, 4)))
    wild = rng.random() < 0.5  # else there is nothing to refuse
    for split, place in (("train", "train"), ("test", rng.choice(["test", "val"]))):
        for name in names:
            own = root / place / name
            own.mkdir(parents=True)
            _fill(tree, own, tree.colours[split].setdefault(name, []), wild)
        if rng.random() < 0.3:
            (root / place / rng.choice(["README", "labels.csv", "1.png"])).write_text("none of a class")
            tree.left_out += 1
        if rng.random() < 0.3:
            hidden = root / place / rng.choice(HIDDEN) / "cat"
            hidden.mkdir(parents=True)
            tree.picture(hidden / "1.png")
            tree.left_out += 1
        if wild and rng.random() < 0.2:
            (root / place / "other").symlink_to(rng.choice([names[0], root, "/gone"]))
            tree.faults.append("a class that is a link")
    return tree


def _fill(tree: Tree, own: Path, colours: list[Colour], wild: bool) -> None:
    rng, folders = tree.rng, [own]
    for _ in range(rng.randint(0, 2)):
        folders.append(rng.choice(folders) / tree.name(rng.choice(["", ".png"])))
        folders[-1].mkdir()
    pictures = [rng.choice(folders) / tree.name(rng.choice(list(LOSSLESS))) for _ in range(rng.randint(1, 4))]
    colours += [tree.picture(path) for path in pictures]
    for _ in range(rng.randint(0, 5)):
        _harmless(tree, own, rng.choice(folders), pictures, colours)
    if wild and rng.random() < 0.3:
        _fault(tree, own, rng.choice(folders))


def _harmless(tree: Tree, own: Path, folder: Path, pictures: list[Path], colours: list[Colour]) -> None:
    rng = tree.rng
    match rng.randrange(7):
        case 0:  # no picture
            (folder / tree.name(rng.choice(OTHER))).write_bytes(rng.randbytes(rng.randrange(50)))
            tree.left_out += 1
        case 1:  # hidden, damaged or not
            path = folder / f".{tree.name('.png')}"
            path.write_text("no picture") if rng.random() < 0.5 else tree.picture(path)
            tree.left_out += 1
        case 2:
            hidden = folder / rng.choice(HIDDEN)
            tree.left_out += not hidden.exists()
            hidden.mkdir(exist_ok=True)
            tree.picture(hidden / tree.name(".png"))
        case 3:  # a link to a folder, or to a picture, that is met where it lies
            link = folder / tree.name(rng.choice(["", ".png"]))
            link.symlink_to(rng.choice([own, folder, Path(), Path("..") / folder.name]))
            link = folder / tree.name(".png")
            link.symlink_to(rng.choice(pictures))
            pictures.append(link)
        case 4:  # links to one that is not
            store = own / rng.choice([f".{tree.name('')}", tree.name("")])
            colour = tree.picture(store)
            tree.left_out += 1
            colours.append(colour)
            for _ in range(rng.randint(1, 3)):
                (folder / tree.name(".png")).symlink_to(store)
        case 5:
            (folder / tree.name(".txt")).symlink_to(rng.choice(["/gone", "/etc/hostname", pictures[0]]))
            tree.left_out += 1
        case _:
            (folder / f".{tree.name('')}").symlink_to(rng.choice(["/", "/gone", "..", "."]))
            tree.left_out += 1


def _fault(tree: Tree, own: Path, folder: Path) -> None:
    rng, root = tree.rng, own.parent.parent
    path = folder / tree.name(rng.choice([".png", ".jpe", ".PPM", ".tif"]))
    tree.faults.append(rng.choice(FAULTS))
    match tree.faults[-1]:
        case "text":
            path.write_text("no picture")
        case "empty":
            path.touch()
        case "cut":
            noise = np.frombuffer(rng.randbytes(3 * 64 * 64), np.uint8).reshape(64, 64, 3)
            Image.fromarray(noise).save(path, "PNG")
            path.write_bytes(path.read_bytes()[: rng.randrange(1, 5000)])
        case "deep":
            Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(path, "PNG")
        case "huge":
            path.write_bytes(b"BM" + struct.pack("<IHHIIiiHHIIIIII", 0, 0, 0, 54, 40, 10**6, 10**6, 1, 24, *[0] * 6))
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "nothing":
            path.symlink_to("gone")
        case "out":  # to another class, to training from test images, or the other way
            places = [place for place in sorted(root.rglob("*.png")) if not place.is_relative_to(own)]
            path.symlink_to(rng.choice([place for place in places if place.is_file()] or ["/etc/hostname"]))
        case "all":
            path.symlink_to(root)
        case "system":
            path.symlink_to("/dev/zero")


def _read(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> dict[str, list[Colour]]:
    """The colours of what was read, by class."""
    found: dict[str, list[Colour]] = {name: [] for name in names}
    for image, label in zip(np.asarray(images), labels, strict=True):
        assert (image == image[0, 0]).all()
        found[names[label]].append(tuple(image[0, 0].tolist()))
    return {name: sorted(colours) for name, colours in found.items()}


@pytest.mark.parametrize("seed", range(TREES))
def test_each_picture_comes_in_once_or_the_tree_is_refused_in_one_line(tmp_path: Path, seed: int):
    root = tmp_path / "pictures"
    tree = written(root, seed)
    spec, cache = DataSpec(name="folder", image_px=8), tmp_path / "cache"
    if tree.faults:
        with pytest.raises(DataError) as refusal:
            load(spec, root, cache=cache)
        assert str(refusal.value).isprintable()
        assert str(refusal.value).startswith(str(root))
        assert str(refusal.value).endswith(".")
        return
    data = load(spec, root, cache=cache)
    test = data.open_test()
    for images, wanted in ((data.train, tree.colours["train"]), (test, tree.colours["test"])):
        read = _read(images.images, images.labels, data.class_names)
        assert read == {name: sorted(colours) for name, colours in wanted.items()}
    assert sum(map(int, re.findall(r"(?:^|, )(\d+) ", data.left_out))) == tree.left_out


def test_of_the_trees_some_are_read_and_some_are_refused(tmp_path: Path):
    faulty = [bool(written(tmp_path / str(seed) / "pictures", seed).faults) for seed in range(TREES // 4)]
    assert 0.25 < np.mean(faulty) < 0.75
