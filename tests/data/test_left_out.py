"""What lies in a folder of pictures and is not read is counted and said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.folder import survey
from raycnn.data.sources import load, look, name_of
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for number, place in enumerate(("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png")):
        (root / place).parent.mkdir(parents=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(root / place)
    return root


def add(root: Path, *places: str) -> None:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "train" / "cat" / "1.png", root / place)


def test_nothing_is_said_of_pictures_alone(root: Path):
    data = load(DataSpec(name="folder", image_px=16), root, cache=root.parent / "cache")
    assert (data.left_out, data.notes()) == ("", [])


def test_files_are_counted_by_suffix_the_most_first(root: Path):
    add(root, "train/cat/a.TXT", "test/dog/b.txt", "train/dog/c.heic", "train/dog/deep/LICENSE")
    assert survey(root).left_out == "2 files with .txt, 1 file with .heic, 1 file without suffix"


def test_hidden_files_and_folders_are_counted_and_not_read(root: Path):
    add(root, "train/cat/.ipynb_checkpoints/1.png", "train/cat/.ipynb_checkpoints/2.png", "train/cat/deep/.a.png")
    add(root, "test/dog/@eaDir/1.png", "train/dog/Thumbs.db", "train/.cache/1.png", "train/__MACOSX/cat/1.png")
    tree = survey(root)
    assert tree.left_out == "4 hidden folders, 2 hidden files"
    assert [[len(paths) for paths in by_class] for by_class in tree.paths.values()] == [[1, 1], [1, 1]]


def test_files_beside_the_classes_and_a_second_test_folder_are_told(root: Path):
    add(root, "train/1.png", "test/labels.csv", "val/cat/1.png")
    assert survey(root).left_out == "2 files in no class's folder, 1 folder val, for there is test"


def test_many_kinds_are_told_in_one_short_line(root: Path):
    add(root, *(f"train/cat/1.x{number}" for number in range(100)), "train/cat/notes. On a long day in May")
    assert len(survey(root).left_out) < 300
    assert survey(root).left_out.endswith("93 of other kinds")


def test_a_class_without_pictures_says_what_lies_there(root: Path):
    (root / "test" / "dog" / "1.png").rename(root / "test" / "dog" / "1.heic")
    with pytest.raises(DataError, match=r"test/dog: no picture \(left out: 1 file with \.heic\)\. Add some, as PNG"):
        survey(root)


def test_a_file_more_that_is_left_out_converts_nothing_again_and_is_told(root: Path):
    spec, cache = DataSpec(name="folder", image_px=16), root.parent / "cache"
    before = load(spec, root, cache=cache)
    add(root, "train/cat/a.txt")
    after = load(spec, root, cache=cache)
    assert (after.directory, after.left_out) == (before.directory, "1 file with .txt")
    assert after.notes() == ["left out: 1 file with .txt"]


def test_a_converted_entry_of_an_earlier_version_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch):
    """It may lack pictures of other suffixes, and does not know of duplicates."""
    spec, cache = DataSpec(name="folder", image_px=16), root.parent / "cache"
    monkeypatch.setattr("raycnn.data.cache._FORMAT", 1)
    earlier = load(spec, root, cache=cache).directory
    monkeypatch.undo()
    assert load(spec, root, cache=cache).directory != earlier


def test_links_to_hidden_pictures_are_read_once_each(root: Path):
    add(root, "train/cat/.store/a.png", "train/cat/blob")
    cat = root / "train" / "cat"
    for name in ("2.png", "3.png"):
        (cat / name).symlink_to(".store/a.png")
    for name in ("4.png", "5.png"):
        (cat / name).symlink_to("blob")
    assert [path.name for path in survey(root).paths["train"][0]] == ["1.png", "2.png", "4.png"]


def test_a_hidden_link_is_not_followed(root: Path):
    (root / "train" / "cat" / ".all").symlink_to("/")
    assert survey(root).left_out == "1 hidden file"


def test_a_link_to_a_hidden_folder_is_refused_for_its_pictures_would_be_missed(root: Path):
    add(root, "train/cat/.store/2.png")
    (root / "train" / "cat" / "more").symlink_to(".store")
    with pytest.raises(DataError, match=r"train/cat/more: is a link to a hidden folder\. Put its pictures there"):
        survey(root)


def test_a_class_that_is_a_link_to_nothing_is_refused(root: Path):
    for split in ("train", "test"):
        (root / split / "eel").symlink_to("/gone")
    with pytest.raises(DataError, match=r"train/eel: is a link to nothing\. Remove it\.$"):
        survey(root)


def test_names_that_cannot_be_shown_are_told_on_one_line(root: Path):
    (root / "train" / "cat" / "a\nb\x1b.png").write_text("no picture")
    with pytest.raises(DataError, match=r"train/cat/a\\nb\\x1b\.png: not a readable picture") as refusal:
        load(DataSpec(name="folder", image_px=16), root, cache=root.parent / "cache")
    assert str(refusal.value).isprintable()
    for split in ("train", "test"):
        add(root, f"{split}/e\udce9l/1.png")
    with pytest.raises(DataError, match=r"train/e\\udce9l: a class's name must be .*\. Rename it\.$"):
        survey(root)


def test_a_hidden_folder_makes_no_data_set(tmp_path: Path):
    (tmp_path / "test" / ".ipynb_checkpoints").mkdir(parents=True)
    with pytest.raises(DataError, match="neither CIFAR nor pictures"):
        name_of(tmp_path)


def test_a_look_counts_pictures_alone_and_says_what_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    add(root, "train/cat/deep/2.png", "train/cat/notes.txt", "train/cat/.git/1.png", "train/dog/2.jfif")
    found = look(DataSpec(name="folder", image_px=16), root)
    assert np.bincount(found.labels).tolist() == [2, 2]
    assert found.class_names == ("cat", "dog")
    assert found.left_out == survey(root).left_out


def test_meta_is_readable_where_files_have_any_name(root: Path):
    add(root, "train/cat/a\udce9.png")
    data = load(DataSpec(name="folder", image_px=16), root, cache=root.parent / "cache")
    assert np.bincount(data.train.labels).tolist() == [2, 1]
    assert json.loads((data.directory / "meta.json").read_text())["class_names"] == ["cat", "dog"]
