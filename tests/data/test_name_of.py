"""What data set lies in a folder."""

import pytest

from raycnn.data.sources import name_of
from raycnn.errors import DataError


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ((), None),
        (("cifar-10-batches-py/data_batch_1",), "cifar10"),
        (("test_batch",), "cifar10"),
        (("cifar-100-python.tar.gz",), "cifar100"),
        (("CIFAR-10-C/fog.npy",), "cifar10"),
        (("CIFAR-100-C/fog.npy", "cifar-10-batches-py/test_batch"), "cifar10"),
        (("train/cat/1.png", "val/cat/1.png"), "folder"),
        (("test/cat/1.png",), "folder"),
    ],
)
def test_a_data_set_is_known_by_what_lies_there(tmp_path, files, name):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert name_of(tmp_path) == name


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("holiday/1.jpg",), "holds neither CIFAR nor pictures in test/CLASS/"),
        (("cifar-10-batches-py/test_batch", "cifar-100-python/test"), "holds cifar10 and cifar100"),
        (("CIFAR-10-C/fog.npy", "CIFAR-100-C/fog.npy"), "holds cifar10 and cifar100"),
    ],
)
def test_what_is_none_or_several_is_asked_for(tmp_path, files, words):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=words):
        name_of(tmp_path)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert name_of(tmp_path / "absent") is None
