"""Frost from photographs: as the authors' program makes it, from folders of all kinds."""

import numpy as np
import pytest
from PIL import Image

from raycnn.errors import DataError
from raycnn.robustness.corruptions import SEVERITIES, corrupt, corrupt_with
from raycnn.robustness.frost import read_textures

NAMES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")


def _photograph(seed: int, height: int = 300, width: int = 403) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six pictures with the authors' names, of sizes that 5 does not divide."""
    for seed, name in enumerate(NAMES):
        Image.fromarray(_photograph(seed, 300 + seed, 403 + 3 * seed)).save(tmp_path / name)
    (tmp_path / "README.txt").write_text("no picture")
    return tmp_path


class _Replayed:
    def __init__(self, legacy):
        self.integers = legacy.randint


def _bilinear_fifth(picture: np.ndarray) -> np.ndarray:
    """Bilinear resizing by 0.2 with pixel centres at halves, written out; sizes are rounded."""
    sizes = [round(length * 0.2) for length in picture.shape[:2]]
    result = picture.astype(float)
    for axis, size in enumerate(sizes):
        place = (np.arange(size) + 0.5) / 0.2 - 0.5
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, picture.shape[axis] - 1)
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


def _authors_frost(image: np.ndarray, severity: int, pictures: list[np.ndarray], legacy) -> np.ndarray:
    """What their program does to one picture, in whole numbers up to 255."""
    image_weight, ice_weight = [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)][severity - 1]
    ice = pictures[legacy.randint(5)]
    top, left = legacy.randint(0, ice.shape[0] - 32), legacy.randint(0, ice.shape[1] - 32)
    return np.clip(image_weight * image + ice_weight * ice[top : top + 32, left : left + 32], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_with_the_authors_random_numbers_the_images_are_theirs(folder, severity):
    images = _photograph(9, 40 * 32, 32).reshape(40, 32, 32, 3)
    scaled = [_bilinear_fifth(np.asarray(Image.open(folder / name))) for name in NAMES[:5]]
    legacy = np.random.RandomState(3)
    wanted = np.stack([_authors_frost(image, severity, scaled, legacy) for image in images])
    draws = [_Replayed(np.random.RandomState(3))] * 40
    got = corrupt_with(draws, images, "frost", severity, read_textures(folder))
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_the_first_five_by_name_are_taken_whatever_lies_beside(folder):
    textures = read_textures(folder)
    assert textures.names == NAMES[:5]
    Image.fromarray(_photograph(77)).save(folder / "frost6.jpg")
    assert read_textures(folder).digest == textures.digest
    Image.fromarray(_photograph(77)).save(folder / "frost1.png")
    assert read_textures(folder).digest != textures.digest


def test_each_image_has_its_own_place_by_seed_and_index(folder):
    textures = read_textures(folder)
    twins = np.zeros((6, 32, 32, 3), np.uint8)
    whole = corrupt(twins, "frost", 3, seed=1, textures=textures)
    assert len(np.unique(whole.reshape(6, -1), axis=0)) == 6
    rest = corrupt(twins[2:], "frost", 3, seed=1, first_index=2, textures=textures)
    np.testing.assert_array_equal(rest, whole[2:])
    assert (corrupt(twins, "frost", 3, seed=2, textures=textures) != whole).any()


def test_other_corruptions_do_not_care(folder):
    images = _photograph(1, 64, 32).reshape(2, 32, 32, 3)
    textures = read_textures(folder)
    np.testing.assert_array_equal(corrupt(images, "fog", 2, 0, textures=textures), corrupt(images, "fog", 2, 0))


def test_images_up_to_the_size_of_a_texture_work_and_larger_ones_are_refused(folder):
    textures = read_textures(folder)
    assert corrupt(np.zeros((1, 60, 80, 3), np.uint8), "frost", 1, 0, textures=textures).shape == (1, 60, 80, 3)
    with pytest.raises(DataError, match=r"frost1\.png: scaled by 0\.2 it has 81 x 60 pixels, the images have 64 x 64"):
        corrupt(np.zeros((1, 64, 64, 3), np.uint8), "frost", 1, 0, textures=textures)


def _huge(folder):
    """Ten thousand million pixels that a small file claims to have."""
    Image.new("1", (8, 8)).save(folder / "frost1.png")
    content = bytearray((folder / "frost1.png").read_bytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    (folder / "frost1.png").write_bytes(content)


def _suspicious(folder):
    """Large enough for Pillow's warning, not for its error."""
    Image.new("1", (10_000, 10_000)).save(folder / "frost1.png")


_BROKEN = {
    "no pictures": (lambda folder: [path.unlink() for path in folder.iterdir()], "no picture"),
    "torn": (lambda folder: (folder / "frost1.png").write_bytes((folder / "frost1.png").read_bytes()[:999]), "frost1"),
    "text": (lambda folder: (folder / "frost1.png").write_text("ice"), "frost1.png: not a readable picture"),
    "a bomb": (_huge, "frost1.png: not a readable picture"),
    "a large bitmap": (_suspicious, "frost1.png: not a readable picture"),
    "a directory": (lambda folder: (folder / "a.png").mkdir(), "a.png: not a readable picture"),
    "16 bits": (lambda folder: Image.new("I;16", (200, 200)).save(folder / "frost1.png"), "more than 8 bits"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_a_folder_that_is_no_good_is_refused_in_one_line(folder, case):
    spoil, message = _BROKEN[case]
    spoil(folder)
    with pytest.raises(DataError, match=message) as error:
        read_textures(folder)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_textures(tmp_path / "nowhere")
