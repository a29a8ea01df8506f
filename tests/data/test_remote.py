"""Data at a URI: what is copied, when again, and what is refused. A directory stands for the object store."""

import dataclasses
import hashlib
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from raycnn.data import cifar, remote
from raycnn.data.remote import directory_of, full_place, local_root
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec
from raycnn.storage import open_directory

CIFAR10 = DataSpec(name="cifar10", verify=False)
PICTURES = DataSpec(name="folder", image_px=16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "raycnn"


@pytest.fixture
def bucket(tmp_path, write_cifar10) -> Path:
    """CIFAR-10, a benchmark, and what belongs to neither."""
    place = tmp_path / "bucket" / "data"
    write_cifar10(place / "cifar-10-batches-py")
    for name in ("CIFAR-10-C/fog.npy", "CIFAR-10-P/fog.npy", "other/huge.bin", "readme.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"content")
    return place


@pytest.fixture
def copied(monkeypatch) -> list[str]:
    """What is copied from now on."""
    names: list[str] = []
    original = remote._copy
    monkeypatch.setattr(
        remote, "_copy", lambda there, file, copy: (names.append(file.path), original(there, file, copy))
    )
    return names


def test_a_directory_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_root("here", CIFAR10) == directory_of("here") == tmp_path / "here"
    assert full_place("here") == str(tmp_path / "here")
    assert full_place("s3://bucket/data") == "s3://bucket/data"
    assert local_root(None, CIFAR10) is None


def test_what_is_needed_is_copied_once_and_found_again(bucket, cache, copied):
    told: list[tuple[str, int, int]] = []
    root = local_root(bucket.as_uri(), CIFAR10, ["CIFAR-10-C"], lambda *words: told.append(words))
    assert root
    assert root == directory_of(bucket.as_uri())
    assert cache in root.parents
    assert sorted(path.name for path in root.iterdir()) == ["CIFAR-10-C", "cifar-10-batches-py"]
    assert len(copied) == 8
    assert told[-1][1] == told[-1][2] > 16 * 3072, "bytes, all of them"
    first = load(CIFAR10, root)
    assert len(first.train.labels) == 16
    assert local_root(bucket.as_uri() + "/", CIFAR10, ["CIFAR-10-C"]) == root
    assert len(copied) == 8, "nothing is copied again"
    assert load(CIFAR10, root).directory == first.directory, "nor converted again"


def test_a_file_that_changed_is_copied_again_alone(bucket, copied):
    root = local_root(bucket.as_uri(), CIFAR10)
    copied.clear()
    changed = bucket / "cifar-10-batches-py" / "data_batch_2"
    os.utime(changed, (1_000_000_000, 1_000_000_000))
    assert local_root(bucket.as_uri(), CIFAR10) == root
    assert [Path(name).name for name in copied] == ["data_batch_2"]


@pytest.mark.parametrize("uri_of", ["the folder", "its files under another name"])
def test_the_uri_may_be_of_the_folder_itself(bucket, uri_of):
    folder = bucket / "cifar-10-batches-py"
    if uri_of != "the folder":
        folder = folder.rename(bucket / "mine")
    assert len(load(CIFAR10, local_root(folder.as_uri(), CIFAR10)).train.labels) == 16


def test_an_archive_is_unpacked_once(bucket, copied, monkeypatch):
    archive = bucket / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(bucket / "cifar-10-batches-py", "cifar-10-batches-py")
    files = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in bucket.glob("cifar-10-batches-py/*")}
    (bucket / "cifar-10-batches-py").rename(bucket / "elsewhere")
    official = cifar.OFFICIAL["cifar10"]
    small = dataclasses.replace(
        official,
        archive_md5=hashlib.md5(archive.read_bytes()).hexdigest(),
        **{part: {name: files[name] for name in getattr(official, part)} for part in ("train", "test", "meta")},
    )
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", small)
    verified = DataSpec(name="cifar10")
    first = load(verified, local_root(bucket.as_uri(), verified))
    assert first.verified
    assert load(verified, local_root(bucket.as_uri(), verified)).directory == first.directory
    assert len(copied) == 1


def test_pictures_that_are_gone_from_the_uri_are_gone_here(tmp_path):
    for name in ("train/ant/1.png", "train/ant/2.png", "train/bee/1.png", "test/ant/1.png", "test/bee/1.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(path)
    uri = (tmp_path / "pictures").as_uri()
    assert len(load(PICTURES, local_root(uri, PICTURES)).train.labels) == 3
    (tmp_path / "pictures/train/ant/2.png").unlink()
    assert len(load(PICTURES, local_root(uri, PICTURES)).train.labels) == 2


def test_an_interrupted_copy_goes_on(bucket, copied, monkeypatch):
    def broken(there, file, copy):
        if file.path.endswith("test_batch"):
            raise OSError("the line is cut")
        whole(there, file, copy)

    whole = remote._copy
    monkeypatch.setattr(remote, "_copy", broken)
    with pytest.raises(DataError, match=r"^--data file:.*cannot be copied to .* \(the line is cut\)\. Check the URI"):
        local_root(bucket.as_uri(), CIFAR10)
    before = len(copied)
    monkeypatch.setattr(remote, "_copy", whole)
    root = local_root(bucket.as_uri(), CIFAR10)
    assert len(load(CIFAR10, root).train.labels) == 16
    assert before < len(copied) == 7, "what had come was not copied again"


@pytest.mark.parametrize(
    ("uri", "benchmarks", "words"),
    [
        (
            "{bucket}/nothing",
            [],
            "holds nothing of the data set cifar10 (cifar-10-batches-py or cifar-10-python.tar.gz or data_batch_1)",
        ),
        ("{bucket}", ["CIFAR-100-C"], "holds no CIFAR-100-C, which is to be scored"),
        ("nonsense://bucket/data", [], "cannot be copied to"),
        ("s3://key:secret@bucket/data", [], "has a password in its URI"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(bucket, uri, benchmarks, words):
    with pytest.raises(DataError) as caught:
        local_root(uri.format(bucket=bucket.as_uri()), CIFAR10, benchmarks)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nothing_is_written_outside_of_the_copy(bucket, monkeypatch):
    """An object store has keys that a file system cannot have."""
    from pyarrow.fs import FileInfo, FileType

    class Hostile:
        def get_file_info(self, wanted):
            if isinstance(wanted, str):
                return FileInfo(wanted, FileType.Directory)
            return [FileInfo("cifar-10-batches-py/../../../evil", FileType.File, size=3)]

        def open_input_stream(self, path, compression):
            raise AssertionError("nothing is read")

    monkeypatch.setattr(remote, "open_directory", lambda uri: Hostile())
    with pytest.raises(DataError, match="is no path to copy"):
        local_root("s3://bucket/data", CIFAR10)


def test_a_root_in_the_specification_is_a_directory():
    with pytest.raises(ValueError, match="Give a URI with --data"):
        DataSpec.model_validate({"name": "cifar10", "root": "s3://bucket/data"})


def test_a_directory_is_opened_by_its_uri(bucket):
    assert open_directory(bucket.as_uri()).get_file_info("readme.txt").size == 7
