"""The cache: converted once, safe among processes, never half there."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raycnn.data import shapes
from raycnn.data.cache import Look, Source, cached
from raycnn.data.dataset import channel_statistics, open_cached, save_split
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

SHAPES = DataSpec(name="shapes", train_images=40, test_images=20)


def _quiet(what, done, total):
    pass


@pytest.fixture
def source(tmp_path):
    """A source of one file; its first byte decides the pixels. `conversions` counts the work."""
    file = tmp_path / "source.bin"
    file.write_bytes(b"\x05")
    conversions = []

    def convert(directory, progress):
        conversions.append(directory)
        value = file.read_bytes()[0]
        for split in ("train", "test"):
            save_split(directory, split, np.full((3, 8, 8, 3), value, np.uint8), np.arange(3))
        return ("a", "b", "c"), True

    return Source("made", {"option": 1}, (file,), convert, lambda: Look(np.zeros(0), 0)), conversions


def test_a_second_load_converts_nothing(tmp_path, source):
    made, conversions = source
    first, second = (cached(made, tmp_path / "cache", _quiet) for _ in range(2))
    assert len(conversions) == 1
    assert first.digest == second.digest
    assert first.directory == second.directory
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_second_load_of_shapes_takes_milliseconds(tmp_path, monkeypatch):
    load(SHAPES, cache=tmp_path)
    monkeypatch.setattr(shapes, "generate", lambda *_: pytest.fail("drawn again"))
    times_s = []
    for _ in range(5):
        start = time.perf_counter()
        load(SHAPES, cache=tmp_path)
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.5


@pytest.mark.parametrize("change", ["content", "time", "option"])
def test_a_changed_source_makes_a_new_entry(tmp_path, source, change):
    made, conversions = source
    first = cached(made, tmp_path / "cache", _quiet)
    match change:
        case "content":
            made.files[0].write_bytes(b"\x06\x06")
        case "time":
            os.utime(made.files[0], ns=(1, 1))
        case "option":
            made = dataclasses.replace(made, settings={"option": 2})
    second = cached(made, tmp_path / "cache", _quiet)
    assert len(conversions) == 2
    assert first.directory != second.directory
    assert first.train.images[0, 0, 0, 0] == 5  # the old entry stays for who still reads it


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path, source):
    made, _ = source

    def convert(directory, progress):
        made.files[0].write_bytes(b"longer now")
        return made.convert(directory, progress)

    with pytest.raises(DataError, match="changed while"):
        cached(dataclasses.replace(made, convert=convert), tmp_path / "cache", _quiet)


def test_a_conversion_that_fails_leaves_nothing_and_the_next_one_succeeds(tmp_path, source):
    made, _ = source

    def convert(directory, progress):
        made.convert(directory, progress)
        raise DataError("no such luck")

    with pytest.raises(DataError, match="no such luck"):
        cached(dataclasses.replace(made, convert=convert), tmp_path / "cache", _quiet)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert cached(made, tmp_path / "cache", _quiet).verified


def test_what_a_killed_conversion_left_is_removed(tmp_path, source):
    made, _ = source
    entry = cached(made, tmp_path / "cache", _quiet).directory
    leftover = entry.with_name(f".{entry.name}-killed")
    entry.rename(leftover)
    assert cached(made, tmp_path / "cache", _quiet).directory == entry
    assert not leftover.exists()


@pytest.mark.parametrize("damage", ["truncated", "missing", "no meta", "bad meta", "other shape", "pickled"])
def test_a_damaged_entry_is_named_by_open_cached_and_mended_by_the_next_load(tmp_path, source, damage):
    made, conversions = source
    entry = cached(made, tmp_path / "cache", _quiet).directory
    file = entry / "train_images.npy"
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-1])
        case "missing":
            file.unlink()
        case "no meta":
            (entry / "meta.json").unlink()
        case "bad meta":
            (entry / "meta.json").write_text("{")
        case "other shape":
            np.save(file, np.zeros((2, 8, 8, 3), np.uint8))
        case "pickled":
            np.save(entry / "train_labels.npy", np.array([{}, {}, {}], object))
    with pytest.raises(DataError, match=rf"^{entry}.*\.$"):
        open_cached(entry)
    assert cached(made, tmp_path / "cache", _quiet).train.images.shape == (3, 8, 8, 3)
    assert len(conversions) == 2


def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(tmp_path, source):
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(DataError, match=rf"^{tmp_path}/cache: cannot hold the converted data [^\n]*$"):
        cached(source[0], tmp_path / "cache", _quiet)


def test_processes_that_load_at_once_get_one_entry(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        directories = pool.map(_load_shapes, [tmp_path] * 6, chunksize=1)
    assert len(set(directories)) == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [Path(directories[0])]


def _load_shapes(cache: Path) -> str:
    return str(load(SHAPES, cache=cache).directory)


def test_arrays_are_mapped_read_only_and_labels_are_int64(tmp_path):
    data = load(SHAPES, cache=tmp_path)
    for split in (data.train, data.open_test()):
        assert isinstance(split.images, np.memmap)
        assert split.labels.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            split.images[0] = 0


def test_the_digest_is_a_sha256_over_images_and_labels(tmp_path):
    data = load(SHAPES, cache=tmp_path)
    content = b"".join(s.images.tobytes() + s.labels.tobytes() for s in (data.train, data.open_test()))
    assert data.digest == hashlib.sha256(content).hexdigest()
    assert open_cached(data.directory).digest == data.digest


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    data = load(SHAPES, cache=tmp_path)
    pixels = data.train.images.reshape(-1, 3) / 255
    assert np.allclose(data.mean, pixels.mean(0), atol=1e-12)
    assert np.allclose(data.std, pixels.std(0), atol=1e-12)


def test_statistics_over_several_blocks_are_those_of_the_whole():
    images = np.random.default_rng(0).integers(0, 200, (2500, 8, 8, 3), np.uint8)
    mean, std = channel_statistics(images)
    assert np.allclose(mean, images.reshape(-1, 3).mean(0) / 255)
    assert np.allclose(std, images.reshape(-1, 3).std(0) / 255)


def test_meta_names_the_source(tmp_path, source):
    entry = cached(source[0], tmp_path / "cache", _quiet).directory
    meta = json.loads((entry / "meta.json").read_text())
    assert meta["source"]["files"][0][:2] == [str(tmp_path / "source.bin"), 1]
    assert meta["class_names"] == ["a", "b", "c"]


def test_the_root_of_the_command_wins_over_that_of_the_spec(tmp_path, write_cifar10):
    write_cifar10(tmp_path / "right" / "cifar-10-batches-py")
    spec = DataSpec(name="cifar10", verify=False, root=tmp_path / "wrong")
    with pytest.raises(DataError, match="wrong"):
        load(spec, cache=tmp_path / "cache")
    assert load(spec, tmp_path / "right", cache=tmp_path / "cache").name == "cifar10"


def test_data_are_loaded_without_torch_ray_or_optuna():
    code = (
        "import sys, raycnn.data.sources, raycnn.data.split; "
        "print({'torch', 'torchvision', 'ray', 'optuna', 'requests'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"
