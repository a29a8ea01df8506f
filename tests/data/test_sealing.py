"""Sealed files cannot be opened, by whatever name and library, until they are unsealed."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from raycnn.data.dataset import test_files as files_of_test_images
from raycnn.data.sealing import sealed
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec


def test_a_sealed_file_cannot_be_opened_by_any_name_or_library(tmp_path):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "fog.npy", np.zeros(3))
    (folder / "table.csv").write_text("a\n1\n")
    (tmp_path / "link").symlink_to(folder)
    with sealed([folder]):
        for read in (
            lambda: np.load(folder / "fog.npy", mmap_mode="r"),
            lambda: np.lib.format.open_memmap(tmp_path / "link" / "fog.npy", mode="r"),
            lambda: (folder / ".." / "CIFAR-10-C" / "fog.npy").read_bytes(),
            lambda: pd.read_csv(folder / "table.csv"),
            lambda: open(bytes(folder / "fog.npy"), "rb"),  # noqa: PTH123, SIM115
        ):
            with pytest.raises(DataError, match="is sealed, for a search must not see test images"):
                read()
        (tmp_path / "other").write_text("other files are nobody's business")
        assert (tmp_path / "other").read_text()
    assert np.load(folder / "fog.npy").shape == (3,)


def test_the_test_images_of_a_data_set_can_be_sealed_and_its_training_images_stay_open(tmp_path):
    data = load(DataSpec(name="shapes", train_images=20, test_images=10), cache=tmp_path)
    with sealed(files_of_test_images(data.directory)):
        assert load(DataSpec(name="shapes", train_images=20, test_images=10), cache=tmp_path).train.images.any()
        with pytest.raises(DataError, match="is sealed"):
            data.open_test()
    assert data.open_test().images.shape[0] == data.test_count == 10


def test_loading_opens_no_test_image(tmp_path):
    """In a process of its own, which watches every file that is opened."""
    load(DataSpec(name="shapes", train_images=20, test_images=10), cache=tmp_path)
    program = f"""
import sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from raycnn.data.sources import load
from raycnn.spec.data import DataSpec
load(DataSpec(name="shapes", train_images=20, test_images=10), cache=Path({str(tmp_path)!r}))
names = [path.rsplit("/", 1)[-1] for path in opened if path.startswith({str(tmp_path)!r})]
assert "train_images.npy" in names, names
assert not [name for name in names if "test" in name], names
"""
    subprocess.run([sys.executable, "-c", program], check=True)
