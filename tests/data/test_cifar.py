"""CIFAR in the official layout: what is read, and what is refused."""

import dataclasses
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raycnn.data import cifar
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

UNVERIFIED = DataSpec(name="cifar10", verify=False)
FOLDER = "cifar-10-batches-py"


@pytest.mark.parametrize("below", [FOLDER, ""])
def test_the_root_is_the_folder_itself_or_the_one_above(tmp_path, write_cifar10, below):
    root = tmp_path / "data"
    written = write_cifar10(root / FOLDER)
    data = load(UNVERIFIED, root / FOLDER if not below else root, cache=tmp_path / "cache")
    assert data.train.images.shape == (16, 32, 32, 3)
    assert data.open_test().images.shape == (5, 32, 32, 3)
    planes = written["data_batch_2"][0].reshape(3, 32, 32)
    for channel in range(3):
        assert np.array_equal(data.train.images[4, :, :, channel], planes[channel])
    assert data.class_names[0] == "airplane"
    assert not data.verified


def test_a_renamed_folder_is_known_by_its_files(tmp_path, write_cifar10):
    write_cifar10(tmp_path / "mine")
    assert len(load(UNVERIFIED, tmp_path / "mine", cache=tmp_path / "cache").train.labels) == 16


def test_batches_may_have_any_size_without_checksums(tmp_path, write_cifar10):
    write_cifar10(tmp_path / FOLDER, sizes=(1, 7, 2, 1, 4, 1))
    data = load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")
    assert (len(data.train.labels), len(data.open_test().labels)) == (15, 1)


def _change(key, value):
    return lambda batch: batch.__setitem__(key, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_change(b"labels", [1, 2, 10]), r"labels reach from 1 to 10, must be 0 to 9"),
        (_change(b"labels", [1, -1, 3]), r"labels reach from -1 to 3, must be 0 to 9"),
        (_change(b"labels", [1, 2]), r"3 images with 2 labels"),
        (_change(b"labels", [b"1", b"2", b"3"]), r"labels must be a list of whole numbers"),
        (_change(b"labels", 3), r"labels must be a list of whole numbers"),
        (_change(b"data", np.zeros((3, 3071), np.uint8)), r"data must be uint8 \(n, 3072\), got uint8 \(3, 3071\)"),
        (_change(b"data", np.zeros((3, 3072), np.int32)), r"data must be uint8 \(n, 3072\), got int32 \(3, 3072\)"),
        (_change(b"data", np.zeros((3, 3, 1024), np.uint8)), r"data must be uint8"),
        (_change(b"data", [1, 2, 3]), r"data must be uint8 \(n, 3072\), got list"),
        (lambda batch: batch.pop(b"data"), r"has no data"),
        (lambda batch: batch.update({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}), r"0 images"),
    ],
)
def test_a_batch_that_is_not_what_it_claims_is_refused_by_name(tmp_path, write_cifar10, damage, message):
    write_cifar10(tmp_path / FOLDER, damage=damage)
    with pytest.raises(DataError, match=rf"^{tmp_path}/{FOLDER}/data_batch_3: .*{message}.* Replace .*\.$"):
        load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/"))


def test_a_truncated_batch_is_refused_by_name(tmp_path, write_cifar10):
    write_cifar10(tmp_path / FOLDER)
    batch = tmp_path / FOLDER / "test_batch"
    batch.write_bytes(batch.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"test_batch: not a readable batch file .* Replace it"):
        load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")


def test_a_list_of_names_of_another_length_is_refused(tmp_path, write_cifar10, python2_pickle):
    write_cifar10(tmp_path / FOLDER)
    (tmp_path / FOLDER / "batches.meta").write_bytes(python2_pickle({b"label_names": [b"cat", b"dog"]}))
    with pytest.raises(DataError, match=r"batches\.meta: label_names must list 10 names"):
        load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")


def test_a_missing_file_is_named_and_nothing_is_downloaded_without_checksums(tmp_path, write_cifar10, monkeypatch):
    monkeypatch.setattr(cifar, "download", lambda *_: pytest.fail("downloaded"))
    write_cifar10(tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_4").unlink()
    with pytest.raises(DataError, match=rf"^{tmp_path}/{FOLDER}: data_batch_4 missing\. Put .* --data"):
        load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")


def test_an_unofficial_copy_is_refused_with_the_way_to_take_it(tmp_path, write_cifar10):
    write_cifar10(tmp_path / FOLDER)
    with pytest.raises(DataError, match=r"data_batch_1: MD5 \w{32} is not the official .* data\.verify: false\.$"):
        load(DataSpec(name="cifar10"), tmp_path, cache=tmp_path / "cache")


def test_a_copy_that_was_taken_unverified_is_not_taken_for_verified_from_the_cache(tmp_path, write_cifar10):
    write_cifar10(tmp_path / FOLDER)
    load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="MD5"):
        load(DataSpec(name="cifar10"), tmp_path, cache=tmp_path / "cache")


def test_files_with_the_official_checksums_are_verified(tmp_path, write_cifar10, monkeypatch):
    write_cifar10(tmp_path / FOLDER)
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in (tmp_path / FOLDER).iterdir()}
    official = cifar.OFFICIAL["cifar10"]
    changes = {group: {name: md5[name] for name in getattr(official, group)} for group in ("train", "test", "meta")}
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", dataclasses.replace(official, **changes))
    assert load(DataSpec(name="cifar10"), tmp_path, cache=tmp_path / "cache").verified


def test_cifar100_takes_the_fine_labels(tmp_path, python2_pickle):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for split, fine in (("train", [99, 0, 42]), ("test", [7])):
        batch = {
            b"data": np.zeros((len(fine), 3072), np.uint8),
            b"fine_labels": fine,
            b"coarse_labels": [1] * len(fine),
        }
        (folder / split).write_bytes(python2_pickle(batch))
    names = [f"class {k}".encode() for k in range(100)]
    (folder / "meta").write_bytes(python2_pickle({b"fine_label_names": names, b"coarse_label_names": [b"x"] * 20}))
    data = load(DataSpec(name="cifar100", verify=False), tmp_path, cache=tmp_path / "cache")
    assert data.train.labels.tolist() == [99, 0, 42]
    assert data.class_names[42] == "class 42"


def test_the_official_checksums_are_those_that_torchvision_knows():
    found = importlib.util.find_spec("torchvision")  # found, not imported: that takes seconds
    assert found is not None
    assert found.origin is not None
    theirs = Path(found.origin).with_name("datasets").joinpath("cifar.py").read_text(encoding="utf-8")
    for ours in cifar.OFFICIAL.values():
        assert f'url = "{ours.url}"' in theirs
        assert f'tgz_md5 = "{ours.archive_md5}"' in theirs
        assert f'base_folder = "{ours.folder}"' in theirs
        assert f'"key": "{ours.names_key}"' in theirs
        for name, md5 in (ours.train | ours.test).items():
            assert f'["{name}", "{md5}"]' in theirs
        for name, md5 in ours.meta.items():
            assert re.search(rf'"filename": "{name}",\s+"key": "\w+",\s+"md5": "{md5}"', theirs)


def test_real_images_come_out_as_their_official_pixels(tmp_path):
    if not (place := os.environ.get("RAYCNN_TEST_DATA")):
        pytest.skip("RAYCNN_TEST_DATA names no folder with the real images")
    make = [sys.executable, str(Path(place, "make_cifar10.py")), "--source", "lossless", "--out", str(tmp_path)]
    subprocess.run(make, check=True, capture_output=True)
    data = load(UNVERIFIED, tmp_path, cache=tmp_path / "cache")
    with np.load(Path(place, "cifar10_lossless.npz")) as expected:
        for split, images in (("train", data.train), ("test", data.open_test())):
            assert np.array_equal(images.images, expected[f"{split}_images"])
            assert np.array_equal(images.labels, expected[f"{split}_labels"])
        assert list(data.class_names) == expected["class_names"].tolist()
