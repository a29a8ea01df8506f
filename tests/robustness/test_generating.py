"""Generated benchmark files: the same however they are made, in the official layout, never mixed with others."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from raycnn import invocation
from raycnn.data.dataset import DataSet
from raycnn.data.sources import load
from raycnn.errors import DataError, RaycnnError, SpecError
from raycnn.robustness import generating
from raycnn.robustness.archives import open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from raycnn.robustness.frost import PROCEDURAL, Textures, read_textures
from raycnn.robustness.generating import Generation, choose, generate
from raycnn.robustness.perturbations import perturb
from raycnn.robustness.units import benchmark_directories
from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring

N = 7
SOME = ("gaussian_noise", "glass_blur", "frost", "jpeg_compression")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> DataSet:
    spec = DataSpec(name="shapes", train_images=12, test_images=N)
    return load(spec, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make(shapes, tmp_path, monkeypatch) -> Callable[..., Path]:
    """make(folder, workers, **changes): the folder, filled, two images at a time."""
    monkeypatch.setattr(generating, "_CHUNK_PIXELS", 2 * 32 * 32)

    def made(folder: str = "out", workers: int = 1, **changes) -> Path:
        settings = {"kind": "c", "names": SOME, "data": shapes.directory, "split": "test", "n": N, "seed": 3}
        generate(Generation(**(settings | changes)), tmp_path / folder, workers, lambda *_: None, lambda _: None)
        return tmp_path / folder

    return made


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_files_are_what_corrupt_makes_of_the_whole_split(make, shapes):
    out = make(names=CORRUPTIONS)
    test = shapes.open_test()
    archive = open_corruptions(out, np.asarray(test.labels))
    assert tuple(file.name for file in archive.files) == CORRUPTIONS
    for file in archive.files:
        whole = [corrupt(np.array(test.images), file.name, severity, seed=3) for severity in SEVERITIES]
        np.testing.assert_array_equal(file.images(), whole)
    assert np.load(out / "labels.npy").dtype == np.uint8
    assert not list(out.glob(".*.part"))


def test_two_workers_write_the_same_bytes_as_one(make):
    assert _content(make("one", workers=1)) == _content(make("two", workers=2))


def test_the_training_images_or_the_first_few_can_be_taken(make, shapes):
    out = make(names=("fog",), split="train", n=5)
    archive = open_corruptions(out, np.asarray(shapes.train.labels))
    assert archive.n == 5
    whole = corrupt(np.array(shapes.train.images), "fog", 2, seed=3)
    np.testing.assert_array_equal(archive.files[0].images()[1], whole[:5])


def test_videos_are_what_perturb_makes_of_the_whole_split(make, shapes):
    names = ("gaussian_noise_2", "motion_blur", "translate", "spatter")
    out = make(kind="p", names=names, workers=2)
    test = shapes.open_test()
    archive = open_perturbations(out, np.asarray(test.labels))
    assert tuple(file.name for file in archive.files) == names
    for file in archive.files:
        np.testing.assert_array_equal(file.videos(), perturb(np.array(test.images), file.name, seed=3))
    assert _content(make("one", kind="p", names=names)) == _content(out)
    assert "frost" not in json.loads((out / "manifest.json").read_text())
    assert "a video of each of the n images" in (out / "README.txt").read_text()
    with pytest.raises(DataError, match="out: was made with set p, and cannot go on with set c"):
        make(names=("fog",))


def test_the_folder_says_what_it_holds(make, shapes):
    out = make()
    settings = json.loads((out / "manifest.json").read_text())
    assert settings | {"raycnn": ""} == {
        "raycnn": "",
        "set": "c",
        "data": "shapes",
        "digest": shapes.digest,
        "verified": True,
        "split": "test",
        "images": N,
        "image_px": 32,
        "seed": 3,
        "frost": PROCEDURAL,
    }
    readme = (out / "README.txt").read_text()
    assert "not official" in readme
    assert PROCEDURAL in readme
    assert max(map(len, readme.splitlines())) <= 120


def test_more_corruptions_can_be_added_and_those_that_are_there_are_kept(make):
    out = make(names=("fog",))
    assert "frost" not in json.loads((out / "manifest.json").read_text())
    before = (out / "fog.npy").stat().st_mtime_ns
    make(names=("fog", "frost"))
    assert json.loads((out / "manifest.json").read_text())["frost"] == PROCEDURAL
    make(names=("fog",))
    assert json.loads((out / "manifest.json").read_text())["frost"] == PROCEDURAL
    assert (out / "fog.npy").stat().st_mtime_ns == before


def test_a_file_that_is_torn_is_made_again(make):
    out = make()
    whole = _content(out)
    (out / "frost.npy").write_bytes(whole["frost.npy"][:-1])
    (out / "glass_blur.npy").write_bytes(bytes(len(whole["glass_blur.npy"])))
    (out / ".fog.npy.part").write_bytes(b"of a run that was killed")
    make()
    assert _content(out) == whole
    assert not list(out.glob(".*.part"))


def test_frost_from_photographs_is_told_from_procedural_frost(make, shapes, tmp_path):
    folder = tmp_path / "ice"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(folder / "a.png")
    textures = read_textures(folder)
    out = make(names=("frost",), textures=textures)
    whole = corrupt(np.array(shapes.open_test().images), "frost", 5, seed=3, textures=textures)
    np.testing.assert_array_equal(np.load(out / "frost.npy")[-N:], whole)
    assert json.loads((out / "manifest.json").read_text())["frost"] == {
        "pictures": ["a.png"],
        "digest": textures.digest,
    }
    assert "Frost: a.png." in (out / "README.txt").read_text()
    with pytest.raises(DataError, match=r"frost of a\.png \(sha256 \w{8}\), and cannot go on with frost procedural\."):
        make(names=("frost",))


def test_the_labels_are_byte_by_byte_those_of_the_official_file(reference, tmp_path):
    """MD5 of labels.npy in CIFAR-10-C.tar as in TorchUncertainty's cifar_c.py."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.read_table(reference("cifar10_jpeg.parquet"), columns=["split", "label"]).to_pandas()
    labels = np.empty(10_000, np.int64)
    labels[np.random.RandomState(0).permutation(10_000)] = table[table["split"] == "test"]["label"]
    generating._save_labels(tmp_path, np.tile(labels, 5))
    content = (tmp_path / "labels.npy").read_bytes()
    assert hashlib.md5(content).hexdigest() == "c439b113295ed5254878798ffe28fd54"


def test_scoring_takes_the_folder_as_cifar10_c(make):
    scoring = Scoring(score=["cifar10-c"], cifar10_c=make())
    assert benchmark_directories(scoring, DataSpec(name="cifar10"), None) == {"cifar10-c": scoring.cifar10_c}


_SMALL = Textures(("a.png",), (np.zeros((31, 40, 3), np.uint8),), "")
_REFUSED: dict[str, tuple[Callable[[Path], object], dict, type[RaycnnError], str]] = {
    "another seed": (lambda out: None, {"seed": 4}, DataError, "was made with seed 3, and cannot go on with seed 4"),
    "fewer images": (lambda out: None, {"n": 6}, DataError, "made with images 7, and cannot go on with images 6"),
    "another split": (lambda out: None, {"split": "train"}, DataError, "made with split test, and cannot go"),
    "more images than there are": (lambda out: None, {"n": 8}, SpecError, "8 images are wanted, the test split has 7"),
    "textures too small": (lambda out: None, {"textures": _SMALL}, DataError, "a.png: scaled by 0.2 it has 40 x 31"),
    "a manifest of another version": (
        lambda out: (out / "manifest.json").write_text((out / "manifest.json").read_text().replace("0.1.0", "0.0.9")),
        {},
        DataError,
        "made with raycnn 0.0.9",
    ),
    "a torn manifest": (lambda out: (out / "manifest.json").write_text("{"), {}, DataError, "manifest.json: damaged"),
    "a manifest of another kind": (lambda out: (out / "manifest.json").write_text("[]"), {}, DataError, "damaged"),
    "files of others": (lambda out: (out / "manifest.json").unlink(), {}, DataError, "that were not made here"),
    "a file of another name": (lambda out: (out / "a.npy").touch(), {}, DataError, "a.npy is no file of CIFAR-10-C"),
    "a folder in the place of a file": (
        lambda out: (out / "fog.npy").mkdir(),
        {"names": ("fog",)},
        DataError,
        "cannot be filled",
    ),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_would_mix_is_refused_in_one_line(make, case):
    spoil, changes, kind, message = _REFUSED[case]
    out = make()
    spoil(out)
    before = _content(out) if "folder" not in case else None
    with pytest.raises(kind, match=message) as error:
        make(**changes)
    assert "\n" not in str(error.value)
    assert before is None or _content(out) == before


def test_two_at_once_in_one_folder_are_refused(make, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(DataError, match="another process is filling it"):
        make()


def test_a_full_disk_is_said_before(make, monkeypatch):
    monkeypatch.setattr(generating, "require_space", lambda *_: (_ for _ in ()).throw(DataError("full")))
    with pytest.raises(DataError, match="full"):
        make()


def test_names_come_in_the_official_order_and_each_kind_takes_its_own():
    assert choose("c", ["fog", "gaussian_noise", "tilt"]) == ("gaussian_noise", "fog")
    assert choose("p", ["fog", "gaussian_noise", "tilt"]) == ("gaussian_noise", "tilt")
    assert len(choose("c", None)) == 19
    assert len(choose("p", None)) == 20


# In processes of their own, as a user runs it.


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of pictures: three classes, four of each in test."""
    random = np.random.default_rng(0)
    for split, count in (("train", 1), ("test", 4)):
        for name in ("ant", "bee", "cat"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def _start(tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "raycnn", "corrupt", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        start_new_session=True,
    )


def _run(tmp_path: Path, *arguments: object) -> tuple[int, str, str]:
    process = _start(tmp_path, *arguments)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_pictures_of_another_size_are_corrupted_by_the_command(tmp_path, pictures):
    out = tmp_path / "out"
    common = ("--name", "folder", "--data", pictures, "--image-px", 24, "--out", out, "--corruptions", "fog,frost")
    status, output, errors = _run(tmp_path, *common, "--workers", 2)
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert "folder: 12 images of the test split, seed 0" in lines
    assert f"frost: {PROCEDURAL}" in lines
    assert "fog.npy is written, 2 of 2" in lines
    assert lines[-1] == f"{out}: 2 files, complete."
    archive = open_corruptions(out, image_px=24)
    assert archive.n == 12
    np.testing.assert_array_equal(archive.labels, np.repeat([0, 1, 2], 4))
    status, output, _ = _run(tmp_path, *common)
    assert status == 0
    assert "2 of 2 files are there already" in output
    status, _, errors = _run(tmp_path, *common, "--seed", 1)
    assert (status, errors) == (
        2,
        f"raycnn: {out}: was made with seed 0, and cannot go on with seed 1. Name another folder.\n",
    )


def test_both_sets_go_into_folders_of_their_own(tmp_path, pictures):
    out = tmp_path / "out"
    common = ("--name", "folder", "--data", pictures, "--out", out, "--workers", 1, "--images", 2)
    status, output, errors = _run(tmp_path, *common, "--set", "both", "--corruptions", "brightness,fog,translate")
    assert (status, errors) == (0, "")
    assert [file.name for file in open_corruptions(out / "c").files] == ["fog", "brightness"]
    assert [file.name for file in open_perturbations(out / "p").files] == ["brightness", "translate"]
    assert output.splitlines()[-1] == f"{out}/p: 2 files, complete."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "mnist"], "--name mnist: is not known. Choose from cifar10, cifar100, folder, shapes."),
        (["--set", "q"], "--set q: is not known. Choose from c, p, both."),
        (["--split", "val"], "--split val: is not known. Choose from test, train."),
        (["--corruptions", "fog,mist"], "--corruptions mist: is not known. Choose from gaussian_noise, shot_noise, "),
        (["--corruptions", "fog", "--set", "p"], "--corruptions fog: is not known. Choose from gaussian_noise, gauss"),
        (["--corruptions", "fog", "--frost-textures", "."], "--frost-textures: frost is not among what is to be made"),
        (["--frost-textures", "nowhere"], "nowhere: cannot be read"),
        (["--name", "folder", "--data", "nowhere"], "nowhere: has no train/"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_status_2(tmp_path, arguments, message):
    status, output, errors = _run(tmp_path, "--out", tmp_path / "out", *arguments)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert not (tmp_path / "out").exists()


SLOW = ("--name", "shapes", "--corruptions", "gaussian_noise,glass_blur,elastic_transform", "--workers", 2)


def _after_the_first_file(process: subprocess.Popen[str], out: Path) -> None:
    deadline = time.monotonic() + 60
    while not (out / "gaussian_noise.npy").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def test_interrupted_and_resumed_it_writes_the_same_bytes(tmp_path):
    out = tmp_path / "out"
    process = _start(tmp_path, *SLOW, "--out", out)
    _after_the_first_file(process, out)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C: to all processes
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    resume = invocation.command("corrupt", "--name", "shapes")
    assert errors.startswith(f"\nInterrupted; finished files are kept. Resume with:\n  {resume} ")
    assert errors.count("\n") == 3
    assert {path.suffix for path in out.iterdir() if path.suffix == ".part"} == set()
    kept = (out / "gaussian_noise.npy").stat().st_mtime_ns
    assert not (out / "elastic_transform.npy").exists()
    status, _, errors = _run(tmp_path, *SLOW, "--out", out)
    assert (status, errors) == (0, "")
    assert (out / "gaussian_noise.npy").stat().st_mtime_ns == kept
    assert _run(tmp_path, *SLOW, "--out", tmp_path / "whole")[0] == 0
    assert _content(out) == _content(tmp_path / "whole")


def test_workers_end_with_a_killed_parent_and_their_rests_are_cleared(tmp_path):
    out = tmp_path / "out"
    process = _start(tmp_path, *SLOW, "--out", out)
    _after_the_first_file(process, out)
    children = _children(process.pid)
    assert len(children) >= 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(out.glob(".*.part"))
    assert _run(tmp_path, *SLOW, "--out", out)[0] == 0
    assert not list(out.glob(".*.part"))
