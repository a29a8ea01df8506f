"""Picture folders: what is found, how it is resized, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from raycnn.data.pictures import read_picture
from raycnn.data.sealing import sealed
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.robustness.units import test_paths as paths_of_test_images
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring

SPEC = DataSpec(name="folder", image_px=16)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def _fill(root, tree, size=(24, 20)):
    for place, colour in tree.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(root / place)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "pictures"
    _fill(root, {"train/zebra/1.png": RED, "train/ant/b.png": BLUE, "train/ant/a.bmp": BLUE, "test/zebra/1.webp": RED})
    _fill(root, {"test/ant/x.JPG": BLUE})
    return root


def _load(root):
    return load(SPEC, root, cache=root.parent / "cache")


def test_classes_are_numbered_by_name_and_pictures_have_the_wished_size(root):
    data = _load(root)
    assert data.class_names == ("ant", "zebra")
    assert data.train.images.shape == (3, 16, 16, 3)
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.open_test().labels.tolist() == [0, 1]
    assert data.train.images[0, 3, 3].tolist() == list(BLUE)
    assert data.train.images[2, 3, 3].tolist() == list(RED)
    assert np.allclose(data.mean, [1 / 3, 0, 2 / 3])
    assert np.allclose(data.std, [np.sqrt(2) / 3, 1 / 255, np.sqrt(2) / 3])


def test_pictures_may_lie_deeper_and_other_files_are_no_pictures(root):
    _fill(root, {"train/ant/images/2020/c.png": BLUE})
    (root / "train" / "ant" / "notes.txt").write_text("not a picture")
    (root / "train" / "ant" / "._a.png").write_text("what some systems leave behind")
    assert _load(root).train.labels.tolist() == [0, 0, 0, 1]


def test_a_val_folder_serves_where_there_is_no_test_folder(root):
    (root / "test").rename(root / "val")
    assert len(_load(root).open_test().labels) == 2


@pytest.mark.parametrize("name", ["test", "val"])
def test_pictures_that_a_search_must_not_see_are_sealed(root, name):
    (root / "test").rename(root / name)
    with sealed(paths_of_test_images(Scoring(), SPEC, root, _load(root))):
        assert (root / "train" / "ant" / "a.bmp").read_bytes()
        with pytest.raises(DataError, match="is sealed"):
            (root / name / "ant" / "x.JPG").read_bytes()


def test_test_images_that_lie_elsewhere_are_sealed_there(root):
    (root / "test" / "ant").rename(root.parent / "ants")
    (root / "test" / "ant").symlink_to(root.parent / "ants")
    with sealed(paths_of_test_images(Scoring(), SPEC, root, _load(root))):
        for path in (root / "test" / "ant" / "x.JPG", root.parent / "ants" / "x.JPG"):
            with pytest.raises(DataError, match="is sealed"):
                path.read_bytes()


def test_without_a_test_folder_the_error_says_what_to_put_where(root):
    (root / "test").rename(root / "other")
    with pytest.raises(DataError, match=rf"^{root}: has no test/ or val/\. Put one directory per class in {root}/test"):
        _load(root)


def test_without_a_root_the_error_says_how_to_name_one(tmp_path):
    with pytest.raises(DataError, match="--data"):
        load(SPEC, cache=tmp_path)


def test_splits_that_differ_in_classes_are_refused(root):
    _fill(root, {"test/bee/1.png": RED})
    (root / "train" / "zebra").rename(root / "train" / "Zebra")
    with pytest.raises(DataError, match=r"Zebra only in train, bee only in test, zebra only in test"):
        _load(root)


def test_a_class_without_pictures_is_refused(root):
    (root / "test" / "ant" / "x.JPG").unlink()
    with pytest.raises(DataError, match=rf"^{root}/test/ant: no picture"):
        _load(root)


def test_a_single_class_is_refused(tmp_path):
    _fill(tmp_path / "one", {"train/ant/1.png": RED, "test/ant/1.png": RED})
    with pytest.raises(DataError, match="two are needed"):
        _load(tmp_path / "one")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "postscript", "deep"])
def test_a_damaged_picture_is_refused_by_its_path(root, damage):
    path = root / "train" / "ant" / "b.png"
    match damage:
        case "truncated":
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
            path.write_bytes(path.read_bytes()[:3000])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no picture")
        case "postscript":  # Pillow would hand it to Ghostscript
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
        case "deep":
            Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(path)
    with pytest.raises(DataError, match=rf"^{path}: not a readable picture \([^\n]+\)\. Replace or remove it\.$"):
        _load(root)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("LA", (50, 0), (50, 50, 50)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (20, 20), colour).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png", 8)[4, 4].tolist() == list(expected)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 9, 8, 7])
    picture.save(tmp_path / "x.png", transparency=b"\x00\x80")
    assert read_picture(tmp_path / "x.png", 8)[4, 4].tolist() == [9, 8, 7]


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (21, 57), (20, 20), (6, 4), (1, 91), (3000, 30), (1, 60_000)])
def test_the_centre_square_is_kept(tmp_path, size):
    """A picture whose middle square is white and the rest black becomes all white."""
    side = min(size)
    picture = Image.new("RGB", size)
    picture.paste((255, 255, 255), ((size[0] - side) // 2, (size[1] - side) // 2, *((x + side) // 2 for x in size)))
    picture.save(tmp_path / "x.png")
    small = read_picture(tmp_path / "x.png", 20)
    assert small.shape == (20, 20, 3)
    assert small.min() >= 254


def test_shrinking_averages_instead_of_picking_pixels(tmp_path):
    board = (np.indices((160, 160)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "x.png")
    assert np.abs(read_picture(tmp_path / "x.png", 16)[2:-2, 2:-2].astype(int) - 127).max() <= 3


def test_a_picture_of_the_wished_size_is_kept_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.array_equal(read_picture(tmp_path / "x.png", 16), pixels)


def test_a_large_jpeg_that_is_decoded_at_a_fraction_still_looks_the_same(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 640)[None, :, None], (480, 640, 3)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "x.jpg", quality=95)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    difference = read_picture(tmp_path / "x.jpg", 16).astype(int) - read_picture(tmp_path / "x.png", 16)
    assert np.abs(difference).max() <= 4
