"""CIFAR-10-C and CIFAR-10-P directories: the good are opened as they are, the bad refused in one line."""

import contextlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycnn.errors import DataError
from raycnn.robustness.archives import PERTURBATIONS, open_corruptions, open_perturbations
from raycnn.robustness.corruptions import CORRUPTIONS

N = 4


@pytest.fixture
def c_directory(tmp_path) -> Path:
    """Two corruptions of four images whose value tells their place: 10 * severity + image."""
    place = (10 * np.arange(1, 6)[:, None] + np.arange(N)).reshape(-1, 1, 1, 1)
    images = np.broadcast_to(place, (5 * N, 32, 32, 3)).astype(np.uint8)
    for name in ("fog", "gaussian_noise"):
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.array([3, 1, 4, 1], np.uint8), 5))
    return tmp_path


@pytest.fixture
def p_directory(tmp_path) -> Path:
    for name, frames in (("shot_noise_2", 31), ("translate", 16)):
        np.save(tmp_path / f"{name}.npy", np.zeros((N, frames, 32, 32, 3), np.uint8))
    return tmp_path


def test_images_come_by_severity_and_in_order(c_directory):
    (c_directory / "README.txt").write_text("other files are nobody's business")
    archive = open_corruptions(c_directory, test_labels=np.array([3, 1, 4, 1, 5, 9]))
    assert [file.name for file in archive.files] == ["gaussian_noise", "fog"]
    np.testing.assert_array_equal(archive.labels, [3, 1, 4, 1])
    images = archive.files[1].images()
    assert images.shape == (5, N, 32, 32, 3)
    assert images[4, 2, 0, 0, 0] == 52
    assert not images.flags.writeable


def test_videos_know_their_frames_and_whether_they_are_noise(p_directory):
    noise, translate = open_perturbations(p_directory).files
    assert (noise.name, noise.n, noise.frames, noise.noise) == ("shot_noise_2", N, 31, True)
    assert (translate.name, translate.n, translate.frames, translate.noise) == ("translate", N, 16, False)
    assert translate.videos().shape == (N, 16, 32, 32, 3)


def test_labels_of_videos_are_read_where_there_are_any(p_directory):
    assert open_perturbations(p_directory).labels is None
    np.save(p_directory / "labels.npy", np.array([3, 1, 4, 1]))
    np.testing.assert_array_equal(open_perturbations(p_directory).labels, [3, 1, 4, 1])  # type: ignore[arg-type]


def test_the_reference_directories_are_in_order(reference):
    with np.load(reference("cifar10_lossless.npz")) as file:
        test_labels = file["test_labels"]
    corruptions = open_corruptions(reference("cifar-10-c-128"), test_labels)
    assert corruptions.n == 128
    assert tuple(file.name for file in corruptions.files) == CORRUPTIONS
    perturbations = open_perturbations(reference("cifar-10-p-32"), test_labels)
    assert perturbations.n == 32
    assert tuple(file.name for file in perturbations.files) == PERTURBATIONS


def _save(name: str, array: np.ndarray | np.uint8) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def _cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def _pickled(folder: Path) -> None:
    (folder / "fog.npy").write_bytes(pickle.dumps(np.zeros(3)))


def _zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "fog.npy", "w") as file:
        file.writestr("fog.npy", bytes(100))


def _lengthened(folder: Path) -> None:
    with (folder / "fog.npy").open("ab") as file:
        file.write(b"x")


def _of_directory(folder: Path) -> None:
    (folder / "fog.npy").unlink()
    (folder / "fog.npy").mkdir()


_GOOD = np.zeros((5 * N, 32, 32, 3), np.uint8)
_BROKEN_CORRUPTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn in the images": (_cut("fog.npy", 5000), "fog.npy: cannot be read as an array of numbers"),
    "torn in the header": (_cut("fog.npy", 50), "fog.npy: cannot be read as an array of numbers"),
    "empty file": (_cut("fog.npy", 0), "fog.npy: cannot be read as an array of numbers"),
    "a byte too many": (_lengthened, "fog.npy: 61569 bytes where its header asks for 61568"),
    "objects": (_save("fog.npy", np.array([{}] * 5 * N)), "fog.npy: cannot be read as an array of numbers"),
    "a bare pickle": (_pickled, "fog.npy: cannot be read as an array of numbers"),
    "a zip": (_zipped, "fog.npy: cannot be read as an array of numbers"),
    "a directory": (_of_directory, "fog.npy: cannot be read as an array of numbers"),
    "floats": (_save("fog.npy", _GOOD.astype(np.float32)), r"fog.npy: expected \(20, 32, 32, 3\) uint8"),
    "channels first": (_save("fog.npy", _GOOD.transpose(0, 3, 1, 2)), "fog.npy: expected .* got .20, 3, 32, 32. uint8"),
    "one row short": (_save("fog.npy", _GOOD[1:]), "fog.npy: expected .* got .19, 32, 32, 3. uint8"),
    "an unknown name": (
        _save("fogg.npy", _GOOD),
        "fogg.npy is no file of CIFAR-10-C or CIFAR-100-C: .* labels.npy, gaus",
    ),
    "no labels": (lambda folder: (folder / "labels.npy").unlink(), "labels.npy is missing: five times the labels"),
    "labels once": (_save("labels.npy", np.arange(N)), "labels.npy: 4 labels are not five times those of n images"),
    "NaN labels": (_save("labels.npy", np.full(20, np.nan)), "labels.npy: expected a row of integers, got .* float64"),
    "labels in a square": (_save("labels.npy", np.zeros((5, 4), int)), "labels.npy: expected a row of integers"),
    "object labels": (_save("labels.npy", np.array([None] * 20)), "labels.npy: cannot be read as an array of numbers"),
    "image-major labels": (_save("labels.npy", np.repeat([3, 1, 4, 1], 5)), "labels.npy: .* but the repeats differ"),
    "other labels": (_save("labels.npy", np.tile([3, 1, 4, 2], 5)), "1 of 4 labels are not those of .* first at 3"),
    "labels of more images": (
        _save("labels.npy", np.tile(np.arange(7), 5)),
        "labels of 7 images, but the test set has 6",
    ),
}


@pytest.mark.parametrize("case", _BROKEN_CORRUPTIONS)
def test_a_broken_corruption_directory_is_refused_in_one_line(c_directory, case):
    spoil, message = _BROKEN_CORRUPTIONS[case]
    spoil(c_directory)
    with pytest.raises(DataError, match=message) as error:
        open_corruptions(c_directory, test_labels=np.array([3, 1, 4, 1, 5, 9]))
    assert "\n" not in str(error.value)


_BROKEN_PERTURBATIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (_cut("translate.npy", 5000), "translate.npy: cannot be read as an array of numbers"),
    "no videos": (_save("shot_noise_2.npy", np.zeros((0, 31, 32, 32, 3), np.uint8)), "shot_noise_2.npy"),
    "frames of another file": (
        _save("translate.npy", np.zeros((N, 31, 32, 32, 3), np.uint8)),
        r"translate.npy: expected \(4, 16, 32, 32, 3\) uint8",
    ),
    "fewer videos": (_save("translate.npy", np.zeros((3, 16, 32, 32, 3), np.uint8)), "as in shot_noise_2.npy"),
    "a single number": (_save("shot_noise_2.npy", np.uint8(3)), "shot_noise_2.npy: holds no videos"),
    "still images": (_save("shot_noise_2.npy", _GOOD), r"shot_noise_2.npy: expected \(20, 31, 32, 32, 3\)"),
    "an unknown name": (_save("shot_noise_4.npy", _GOOD), "shot_noise_4.npy is no file of CIFAR-10-P"),
    "too many labels": (_save("labels.npy", np.arange(5)), "5 labels for 4 videos"),
}


@pytest.mark.parametrize("case", _BROKEN_PERTURBATIONS)
def test_a_broken_perturbation_directory_is_refused_in_one_line(p_directory, case):
    spoil, message = _BROKEN_PERTURBATIONS[case]
    spoil(p_directory)
    with pytest.raises(DataError, match=message) as error:
        open_perturbations(p_directory)
    assert "\n" not in str(error.value)


def test_what_is_no_such_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a directory"):
        open_corruptions(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no file of CIFAR-10-P, such as gaussian_noise\.npy"):
        open_perturbations(tmp_path)


def test_a_file_that_changes_after_it_was_checked_is_noticed(c_directory):
    file = open_corruptions(c_directory).files[0]
    np.save(file.path, np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"had 20 rows, now \(5, "):
        file.images()


@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_a_changed_byte_of_a_header_is_refused_or_harmless(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("c")
    np.save(folder / "labels.npy", np.zeros(5, int))
    np.save(folder / "fog.npy", np.zeros((5, 32, 32, 3), np.uint8))
    content = bytearray((folder / "fog.npy").read_bytes())
    content[place] = value
    (folder / "fog.npy").write_bytes(content)
    with contextlib.suppress(DataError):
        assert open_corruptions(folder).files[0].images().shape == (5, 1, 32, 32, 3)
