"""Images with the same pixels are counted, by kind, with one pair of names; test images are not among what is kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.cache import Look, Progress, Source, cached
from raycnn.data.dataset import DataSet, save_split
from raycnn.data.duplicates import split_duplicates
from raycnn.data.sources import load
from raycnn.data.split import Split
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training pictures a class, 0 to 5 and 6 to 11 in order, and two test pictures, all different."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def copy(root: Path, place: str, to: str) -> None:
    shutil.copy(root / place, root / to)


def loaded(root: Path) -> DataSet:
    return load(DataSpec(name="folder", image_px=16), root, cache=root.parent / "cache")


def split_of(data: DataSet, *validation: int) -> Split:
    rest = np.setdiff1d(np.arange(len(data.train.labels)), validation)
    return Split(rest, np.array(validation), "")


def test_nothing_is_said_where_all_images_differ(root: Path):
    data = loaded(root)
    assert data.duplicates == ()
    assert split_duplicates(data, split_of(data, 0, 6)) == []


def test_validation_images_that_are_trained_on_are_counted(root: Path):
    copy(root, "train/cat/0.png", "train/cat/1.png")
    copy(root, "train/cat/0.png", "train/cat/2.png")
    copy(root, "train/dog/0.png", "train/dog/1.png")
    data = loaded(root)
    assert data.duplicates == ()
    mend = "Validation errors are too good; remove such images."
    words = "validation images: the same pixels as a training image (such as"
    assert split_duplicates(data, split_of(data, 0, 1, 5)) == [
        f"2 of 3 {words} train/cat/0.png and train/cat/2.png). {mend}"
    ]
    assert split_duplicates(data, split_of(data, 7)) == [f"1 of 1 {words} train/dog/1.png and train/dog/0.png). {mend}"]
    assert split_duplicates(data, split_of(data, 0, 1, 2, 3)) == []  # all of them on one side


def test_test_images_that_are_trained_on_are_counted(root: Path):
    copy(root, "train/cat/3.png", "test/cat/0.png")
    copy(root, "test/dog/0.png", "test/dog/1.png")  # of no harm to training
    data = loaded(root)
    assert data.duplicates == (
        "1 of 4 test images: the same pixels as a training image (such as test/cat/0.png and train/cat/3.png). "
        "Scores are too good; remove such images.",
    )
    assert split_duplicates(data, split_of(data, 3)) == []


def test_the_same_picture_in_two_classes_is_told(root: Path):
    copy(root, "train/cat/3.png", "train/dog/0.png")
    copy(root, "test/cat/0.png", "test/dog/1.png")
    assert loaded(root).duplicates == (
        "2 of 16 images: the same pixels as one of another class (such as train/dog/0.png and train/cat/3.png). "
        "One of the classes is wrong; remove such images.",
    )


def test_another_format_of_the_same_pixels_is_found_and_a_changed_pixel_is_not(root: Path):
    with Image.open(root / "train" / "cat" / "0.png") as opened:
        picture = opened.convert("RGB")
    picture.save(root / "test" / "cat" / "same.bmp")
    picture.putpixel((3, 3), (0, 0, 0))
    picture.save(root / "test" / "cat" / "other.bmp")
    assert len(data := loaded(root).duplicates) == 1
    assert data[0].startswith("1 of 6 test images: ")


def test_what_is_kept_for_the_search_names_no_test_image(root: Path):
    copy(root, "train/cat/3.png", "test/cat/0.png")
    copy(root, "train/cat/3.png", "train/cat/4.png")
    kept = (loaded(root).directory / "duplicates.json").read_text()
    assert kept == '[[[3, "train/cat/3.png"], [4, "train/cat/4.png"]]]'


def test_the_notes_are_the_same_from_the_cache(root: Path):
    copy(root, "train/cat/3.png", "test/cat/0.png")
    first, second = loaded(root), loaded(root)
    assert first.notes() == second.notes() == [f"warning: {first.duplicates[0]}"]


def test_images_without_files_of_their_own_are_named_by_number(tmp_path: Path):
    def convert(directory: Path, progress: Progress) -> tuple[tuple[str, ...], bool]:
        for split, values in (("train", (1, 2, 3)), ("test", (4, 3))):
            images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in values])
            save_split(directory, split, images, np.array(values) % 2)
        return ("even", "odd"), True

    data = cached(
        Source("made", {}, (), convert, lambda: Look(np.zeros(3), 2)), tmp_path, lambda what, done, total: None
    )
    assert len(data.duplicates) == 1
    assert "1 of 2 test images" in data.duplicates[0]
    assert "(such as test image 1 and train image 2)" in data.duplicates[0]


@pytest.mark.parametrize("content", ["", "{", "7", "[[[99, 1]]]", "[[3]]", "gone"])
def test_a_damaged_file_is_told_with_the_mend(root: Path, content: str):
    data = loaded(root)
    path = data.directory / "duplicates.json"
    path.unlink() if content == "gone" else path.write_text(content)
    with pytest.raises(DataError, match=rf"^{path}: damaged \([^\n]*\)\. Delete its folder; the next start"):
        split_duplicates(replace(data, name="folder"), split_of(data, 0))
