"""Rows of robustness.parquet: the numbers of models so simple that they are known beforehand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycnn.errors import CheckpointError
from raycnn.models import build
from raycnn.models.classifier import Classifier
from raycnn.robustness.archives import open_corruptions, open_perturbations
from raycnn.robustness.corruptions import corrupt
from raycnn.robustness.evaluate import (
    logits,
    logits_of_all,
    score_clean,
    score_corruption,
    score_generated,
    score_perturbation,
)
from raycnn.robustness.metrics import flips, ranking_distances
from raycnn.robustness.results import Row

CPU = torch.device("cpu")


class Corner(nn.Module):
    """Predicts the value of the upper right pixel's green channel, one of ten classes."""

    def forward(self, images: Tensor) -> Tensor:
        return 10.0 * nn.functional.one_hot(images[:, 1, 0, -1].long() % 10, 10)


class Constant(nn.Module):
    """Predicts one class, surely. Counts the batches it sees."""

    def __init__(self, answer: int):
        super().__init__()
        self.answer, self.batches = answer, 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        return 100.0 * nn.functional.one_hot(torch.full((len(images),), self.answer), 10)


def _images(greens: list[int]) -> np.ndarray:
    images = np.zeros((len(greens), 32, 32, 3), np.uint8)
    images[:, 0, -1, 1] = greens
    return images


def _network() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(build("fastnet", 32), 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), rotation=False)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def test_pixels_arrive_where_they_belong():
    np.testing.assert_array_equal(logits(Corner(), _images([3, 7, 9]), CPU).argmax(axis=1), [3, 7, 9])


def test_batch_norm_keeps_its_statistics_and_the_batch_size_changes_nothing(noise):
    model = _network().train()
    whole = logits(model, noise, CPU)
    np.testing.assert_allclose(logits(model, noise, CPU, batch_size=7), whole, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        one_by_one = [model(torch.tensor(image.transpose(2, 0, 1)[None].copy())) for image in noise]
    np.testing.assert_allclose(torch.cat(one_by_one).numpy(), whole, rtol=1e-4, atol=1e-5)


def test_read_only_images_are_read_once_for_all_models(noise, tmp_path):
    class Counted(np.ndarray):
        read = 0

        def __getitem__(self, place):
            part = np.asarray(super().__getitem__(place))
            Counted.read += part.nbytes
            return part

    np.save(tmp_path / "images.npy", noise)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    models = {("a", 0): Constant(1), ("a", 1): Constant(2), ("b", 0): Corner()}
    scores = logits_of_all(models, np.asarray(mapped).view(Counted), CPU, batch_size=8)
    assert Counted.read == noise.nbytes
    assert list(scores) == list(models)
    np.testing.assert_array_equal(scores["a", 1].argmax(axis=1), 2)


def test_a_clean_score_counts_errors():
    (one,) = score_clean({("m", 3): Constant(1)}, _images([0] * 4), np.array([1, 1, 1, 2]), CPU)
    assert one.row == Row("m", 3, "clean", "clean", 0, 4, 1, None, 25.0, 0.25, 0.25)
    assert (one.row.error, one.row.key) == (0.25, ("m", 3))
    np.testing.assert_array_equal(one.outcomes["wrong"], [0, 0, 0, 1])
    np.testing.assert_allclose(one.outcomes["confidence"], 1)
    (beside,) = score_clean({("m", 3): Corner()}, _images([0]), np.array([0]), CPU, "cifar-10-c")
    assert beside.row.set == "cifar-10-c"


def test_a_corruption_file_is_scored_by_severity(tmp_path):
    labels = np.array([4, 5])
    greens = [4, 5, 4, 5, 4, 0, 0, 5, 0, 0]  # errors 0, 0, 1, 1, 2
    np.save(tmp_path / "fog.npy", _images(greens))
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    archive = open_corruptions(tmp_path)
    scored = score_corruption({("m", 0): Corner(), ("c", 1): Constant(4)}, archive.files[0], archive.labels, CPU)
    rows = [one.row for one in scored]
    errors = [(row.model, row.severity, row.n, row.errors) for row in rows]
    assert errors[:5] == [("m", s, 2, wrong) for s, wrong in enumerate((0, 0, 1, 1, 2), start=1)]
    assert errors[5:] == [("c", s, 2, 1) for s in range(1, 6)]
    assert {(row.set, row.name) for row in rows} == {("cifar-10-c", "fog")}
    assert [list(one.outcomes["wrong"]) for one in scored[:5]] == [[0, 0], [0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_perturbation_file_is_scored_by_the_metrics_of_its_kind(tmp_path):
    greens = np.array([[1] * 31, [1, 2] * 15 + [1]])
    still = _images(greens.ravel().tolist()).reshape(2, 31, 32, 32, 3)
    np.save(tmp_path / "rotate.npy", still)
    np.save(tmp_path / "shot_noise.npy", still)
    noise, rotate = open_perturbations(tmp_path).files
    (one,) = score_perturbation({("m", 0): Corner()}, rotate, CPU)
    assert one.row.flip_probability == pytest.approx(0.5)
    np.testing.assert_array_equal(one.outcomes["flips"], [0, 1])
    assert score_perturbation({("m", 0): Corner()}, noise, CPU)[0].row.flip_probability == pytest.approx(0.25)
    (row,) = (one.row for one in score_perturbation({("m", 0): _network()}, rotate, CPU))
    scores = logits(_network(), still.reshape(-1, 32, 32, 3), CPU).reshape(2, 31, 10)
    wanted = (
        flips(scores.argmax(-1), noise=False).mean(),
        ranking_distances(scores, "top5", noise=False).mean(),
        ranking_distances(scores, "zipf", noise=False).mean(),
    )
    assert (row.flip_probability, row.top5_distance, row.zipf_distance) == pytest.approx(wanted)
    assert (row.set, row.name, row.severity, row.n, row.errors) == ("cifar-10-p", "rotate", None, 2, None)


def test_generated_corruptions_are_those_of_corrupt(noise):
    labels = np.zeros(len(noise), dtype=np.int64)
    rows = score_generated({("m", 0): _network()}, noise, labels, "speckle_noise", 5, CPU)
    for severity in range(1, 6):
        wrong = (logits(_network(), corrupt(noise, "speckle_noise", severity, 5), CPU).argmax(axis=1) != 0).sum()
        (row,) = (one.row for one in rows if one.row.severity == severity)
        assert (row.set, row.name, row.errors) == ("generated-c", "speckle_noise", wrong)


def test_a_model_without_finite_logits_is_named(noise):
    class Diverged(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 10), float("nan"))

    with pytest.raises(CheckpointError, match="trial-003, seed 2: its logits are not finite"):
        score_clean({("trial-003", 2): Diverged()}, noise, np.zeros(20, dtype=int), CPU)


def test_real_archives_give_all_rows_and_a_guess_errs_nine_times_in_ten(reference):
    with np.load(reference("cifar10_lossless.npz")) as file:
        labels = file["test_labels"].astype(np.int64)
    corruptions = open_corruptions(reference("cifar-10-c-128"), labels)
    rows = score_corruption({("m", 0): Constant(3)}, corruptions.files[0], corruptions.labels, CPU)
    assert {one.row.error for one in rows} == {(labels[:128] != 3).mean()}
    perturbations = open_perturbations(reference("cifar-10-p-32"), labels)
    (one,) = score_perturbation({("m", 0): Constant(3)}, perturbations.files[6], CPU)
    assert (one.row.flip_probability, one.row.top5_distance, one.row.zipf_distance) == (0, 0, 0)
