"""What a class's folder may hold beside pictures: links, pipes, what cannot be read. Nothing of elsewhere comes in."""

import os
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.pictures import read_picture
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.robustness.archives import open_corruptions
from raycnn.robustness.frost import read_textures
from raycnn.spec.data import DataSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for place in ("train/cat/1.png", "train/cat/more/2.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(root / place)
    return root


def training_images(root: Path, limit_s: float = 60) -> list[int]:
    """Of each class. Raises what loading does, TimeoutError where it does not end."""
    told: list[list[int] | BaseException] = []

    def ask() -> None:
        try:
            data = load(DataSpec(name="folder", image_px=16), root, cache=root.parent / "cache")
            told.append(np.bincount(data.train.labels).tolist())
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit_s)
    if not told:
        raise TimeoutError
    if isinstance(told[0], BaseException):
        raise told[0]
    return told[0]


def refused(root: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as refusal:
        training_images(root)
    assert "\n" not in str(refusal.value)


def test_links_within_a_class_are_followed_once(root: Path):
    cat = root / "train" / "cat"
    (cat / "again").symlink_to("more")
    (cat / "itself").symlink_to(".")
    (cat / "more" / "up").symlink_to("..")
    (cat / "loop").symlink_to(cat / "more" / "loop")
    (cat / "more" / "loop").symlink_to(cat)
    (cat / "0.png").symlink_to("1.png")
    assert training_images(root) == [2, 1]


@pytest.mark.parametrize("target", ["../..", "../../test/cat", "../dog", "/usr"])
def test_a_link_to_a_folder_outside_of_the_class_is_refused(root: Path, target: str):
    (root / "train" / "cat" / "loop").symlink_to(target)
    refused(root, r"train/cat/loop: is a link to .*, outside of its class's folder. Put .* or remove it")


def test_a_link_to_a_picture_outside_of_the_class_is_refused(root: Path):
    (root / "train" / "cat" / "3.png").symlink_to("../../test/cat/1.png")
    refused(root, r"3.png: is a link to .*test/cat/1.png, outside")


@pytest.mark.parametrize(("link", "target"), [("train/ant", "dog"), ("train/ant", "."), ("train/ant", "../test/cat")])
def test_a_class_that_is_a_link_to_another_or_to_test_images_is_refused(root: Path, link: str, target: str):
    (root / link).symlink_to(target)
    (root / "test" / "ant").mkdir()
    Image.new("RGB", (16, 16)).save(root / "test" / "ant" / "1.png")
    refused(root, "by a link")


def test_a_class_may_lie_elsewhere(root: Path):
    (root / "train" / "cat").rename(root.parent / "cats")
    (root / "train" / "cat").symlink_to(root.parent / "cats")
    assert training_images(root) == [2, 1]


def test_a_link_to_nothing_is_refused(root: Path):
    (root / "train" / "cat" / "3.png").symlink_to("gone.png")
    refused(root, r"3.png: is a link to nothing. Remove it")


def test_a_link_to_itself_is_refused(root: Path):
    (root / "train" / "cat" / "3.png").symlink_to("3.png")
    refused(root, r"3.png: cannot be read")


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_has_a_pictures_name_and_is_no_file_is_refused_and_not_waited_for(root: Path, kind: str):
    path = root / "train" / "cat" / "3.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
        os.chdir(here)
    else:
        path.symlink_to("/dev/zero")
        refused(root, r"3.png: is a link to /dev/zero, outside")
        return
    refused(root, r"3.png: has a picture's name and is no file. Remove it")


def test_a_pipe_of_another_name_does_no_harm(root: Path):
    os.mkfifo(root / "train" / "cat" / "log")
    assert training_images(root) == [2, 1]


def test_siblings_of_the_folder_do_not_wait_for_a_pipe_either(tmp_path: Path):
    os.mkfifo(tmp_path / "1.png")
    os.mkfifo(tmp_path / "fog.npy")
    np.save(tmp_path / "labels.npy", np.zeros(5, np.int64))
    for ask in (lambda: read_picture(tmp_path / "1.png", 8), lambda: read_textures(tmp_path)):
        with pytest.raises(DataError, match=r"1.png: not a readable picture \(it is no file\)"):
            ask()
    with pytest.raises(DataError, match=r"fog.npy: cannot be read as an array of numbers \(it is no file\)"):
        open_corruptions(tmp_path)


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
def test_a_picture_is_judged_by_the_pixels_that_it_claims_before_it_is_decoded(root: Path, side: int):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")
    (root / "train" / "cat" / "3.png").write_bytes(picture)
    refused(root, r"3.png: not a readable picture \(it claims to have more than 89,478,485 pixels\). Shrink or remove")
