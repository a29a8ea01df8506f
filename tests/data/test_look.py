"""A look at a data set tells what a load gives, refuses what a load refuses, and writes nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data import cifar
from raycnn.data.remote import local_root, look_at
from raycnn.data.sources import load, look
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

CIFAR = DataSpec(name="cifar10", verify=False)
FOLDER = DataSpec(name="folder", image_px=8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / split / name / f"{index}.png")
    return tmp_path / "pictures"


def test_a_look_at_cifar_tells_what_a_load_gives_and_writes_nothing(tmp_path, write_cifar10):
    write_cifar10(tmp_path / "cifar-10-batches-py")
    seen = look(CIFAR, tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    loaded = load(CIFAR, tmp_path, cache=tmp_path / "cache")
    assert seen.labels.tolist() == loaded.train.labels.tolist()
    assert (seen.test_count, seen.digest) == (loaded.test_count, loaded.digest)
    assert seen.cache_bytes == loaded.train.images.nbytes + loaded.open_test().images.nbytes
    again = look(CIFAR, tmp_path, tmp_path / "cache")
    assert (again.digest, again.cache_bytes) == (loaded.digest, 0)


def test_a_look_refuses_what_a_load_refuses(tmp_path, write_cifar10, pictures):
    write_cifar10(tmp_path / "cifar-10-batches-py")
    (pictures / "train" / "bee" / "1.png").write_bytes(b"no picture")
    cases = [
        (DataSpec(name="cifar10"), tmp_path, "is not the official"),
        (CIFAR, tmp_path / "nowhere", "missing"),
        (FOLDER, tmp_path / "nowhere", "has no train/"),
        (FOLDER, pictures, "not a readable picture"),
    ]
    for spec, root, message in cases:
        for how in (look, load):
            with pytest.raises(DataError, match=message):
                how(spec, root, cache=tmp_path / "cache")


def test_what_would_be_downloaded_is_told_with_its_size(tmp_path):
    seen = look(DataSpec(name="cifar100"), tmp_path / "new", tmp_path / "cache")
    assert seen.download_bytes == cifar.OFFICIAL["cifar100"].archive_bytes > 160e6
    assert np.bincount(seen.labels).tolist() == [500] * 100
    assert seen.test_count == 10_000
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_pictures_counts_those_of_each_class(tmp_path, pictures):
    seen = look(FOLDER, pictures, tmp_path / "cache")
    assert seen.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (seen.test_count, seen.note, seen.cache_bytes) == (4, "", 10 * 3 * 8 * 8)


def test_shapes_have_as_many_of_each_class_as_a_look_says(tmp_path):
    spec = DataSpec(name="shapes", train_images=37, test_images=10)
    loaded = load(spec, cache=tmp_path / "cache")
    seen = look(spec, cache=tmp_path / "other")
    counts = (np.sort(np.bincount(labels)).tolist() for labels in (seen.labels, np.array(loaded.train.labels)))
    assert next(counts) == next(counts)


def test_what_a_bucket_has_is_counted_before_it_is_copied(tmp_path, write_cifar10, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    bucket = tmp_path / "bucket"
    write_cifar10(bucket / "cifar-10-batches-py")
    size = sum(path.stat().st_size for path in bucket.rglob("*") if path.is_file())
    copy, left = look_at(bucket.as_uri(), CIFAR)
    assert left == size
    assert not (tmp_path / "user").exists()
    assert local_root(bucket.as_uri(), CIFAR) == copy
    assert look_at(bucket.as_uri(), CIFAR) == (copy, 0)
    with pytest.raises(DataError, match="holds no CIFAR-10-C"):
        look_at(bucket.as_uri(), CIFAR, ["CIFAR-10-C"])
