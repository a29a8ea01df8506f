"""ImageNet-C directories: read in both layouts, scored in units of AlexNet's errors, refused where they are broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from raycnn.errors import DataError
from raycnn.robustness.corruptions import TEST_CORRUPTIONS
from raycnn.robustness.evaluate import score_pictures
from raycnn.robustness.imagenet_c import open_imagenet_c
from raycnn.robustness.metrics import ALEXNET_ERRORS
from raycnn.robustness.summary import measures

CPU = torch.device("cpu")
CLASSES = ("n01", "n02", "n03")


def make(root: Path, names=("gaussian_noise", "fog"), family: str = "", spoilt: int = 0) -> Path:
    """Two pictures of each class, their red 80 times its place; at severities above `spoilt`, one of the six is odd."""
    for name in names:
        for severity in range(1, 6):
            for label, of_class in enumerate(CLASSES):
                for number in range(2):
                    red = 80 * label if severity <= spoilt or (label, number) != (0, 0) else 80
                    path = root / family / name / str(severity) / of_class / f"picture_{number}.JPEG"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (20, 20), (red, 0, 0)).save(path, "JPEG", quality=95)
    return root


class Red(nn.Module):
    """The class is the red of the middle, in steps of 80."""

    def forward(self, images: Tensor) -> Tensor:
        step = (images[:, 0, 8, 8].float() / 80).round().long()
        return 10.0 * nn.functional.one_hot(step.clamp(0, 2), 3)


@pytest.mark.parametrize("family", ["", "noise"])
def test_both_layouts_are_read_and_labels_follow_the_folders(tmp_path, family):
    archive = open_imagenet_c(make(tmp_path, family=family))
    assert archive.classes == CLASSES
    assert [file.name for file in archive.files] == ["gaussian_noise", "fog"]
    file = archive.files[0]
    np.testing.assert_array_equal(file.labels, [0, 0, 1, 1, 2, 2])
    batches = list(file.batches(5, 4, 16))
    assert [batch.shape for batch in batches] == [(4, 16, 16, 3), (2, 16, 16, 3)]
    np.testing.assert_allclose(np.concatenate(batches)[:, 8, 8, 0], [80, 0, 80, 80, 160, 160], atol=3)


def test_hidden_folders_are_no_classes(tmp_path):
    folder = make(tmp_path) / "fog" / "3"
    for name in (".ipynb_checkpoints", "@eaDir"):
        shutil.copytree(folder / "n01", folder / name)
    assert open_imagenet_c(tmp_path).classes == CLASSES


def test_scores_count_errors_by_severity_and_mce_is_in_units_of_alexnets(tmp_path):
    archive = open_imagenet_c(make(tmp_path, TEST_CORRUPTIONS, spoilt=3))
    scored = [one for file in archive.files for one in score_pictures({("m", 0): Red()}, file, 16, CPU)]
    assert [one.row.errors for one in scored[:5]] == [0, 0, 0, 1, 1]
    assert {one.row.set for one in scored} == {"imagenet-c"}
    outcomes = {
        ("imagenet-c", one.row.name, one.row.severity, "wrong"): {one.row.key: one.outcomes["wrong"]} for one in scored
    }
    mean, mce = measures(outcomes)
    assert (mean.key, mce.key) == ("imagenet-c/mce15", "imagenet-c/mce")
    error = 2 / 5 / 6
    assert mean.estimate("m").value == pytest.approx(error)
    wanted = np.mean([error / ALEXNET_ERRORS[name] for name in TEST_CORRUPTIONS])
    assert mce.estimate("m").value == pytest.approx(wanted)


def test_classes_of_a_network_that_knows_more_keep_their_places(tmp_path):
    archive = open_imagenet_c(make(tmp_path), classes=("n00", *CLASSES, "n04"))
    np.testing.assert_array_equal(archive.files[0].labels, [1, 1, 2, 2, 3, 3])


_BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a severity is missing": (lambda root: shutil.rmtree(root / "fog" / "4"), "fog/4: is missing"),
    "a picture is missing": (
        lambda root: (root / "fog/2/n01/picture_1.JPEG").unlink(),
        "fog/2: has no n01/picture_1.JPEG, unlike gaussian_noise/1",
    ),
    "a picture too many": (
        lambda root: shutil.copy(root / "fog/2/n01/picture_1.JPEG", root / "fog/2/n01/picture_2.JPEG"),
        "fog/2: has n01/picture_2.JPEG, unlike gaussian_noise/1",
    ),
    "no picture": (
        lambda root: [shutil.rmtree(root / "gaussian_noise/1" / of_class) for of_class in CLASSES],
        "gaussian_noise/1: holds no picture",
    ),
    "two of a name": (
        lambda root: shutil.copytree(root / "fog", root / "weather" / "fog"),
        "weather/fog: fog is also in",
    ),
    "none at all": (lambda root: [shutil.rmtree(path) for path in list(root.iterdir())], "holds no corruption"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_a_broken_directory_is_refused_in_one_line(tmp_path, case):
    spoil, message = _BROKEN[case]
    spoil(make(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        open_imagenet_c(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_that_the_network_does_not_know_is_refused(tmp_path):
    with pytest.raises(DataError, match="n03: is no class of the network, which has n01, n02"):
        open_imagenet_c(make(tmp_path), classes=CLASSES[:2])
    with pytest.raises(DataError, match="is not a directory"):
        open_imagenet_c(tmp_path / "nowhere")


def test_a_damaged_picture_is_named(tmp_path):
    make(tmp_path)
    path = tmp_path / "fog" / "3" / "n02" / "picture_0.JPEG"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"fog/3/n02/picture_0\.JPEG: not a readable picture"):
        score_pictures({("m", 0): Red()}, open_imagenet_c(tmp_path).files[1], 16, CPU)
