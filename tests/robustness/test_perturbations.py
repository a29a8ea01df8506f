"""Perturbations against the authors' videos: with their random numbers pixel by pixel, with ours in distribution."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import some_pictures, spectrum

from raycnn.errors import SpecError
from raycnn.robustness.perturbations import FRAMES, PERTURBATIONS, perturb, perturb_with

NOISES = tuple(name for name in PERTURBATIONS if "noise" in name)
BY_CHANCE = (*NOISES, "snow", "spatter")


class _Replayed:
    """The generators of the authors' program, numpy's and torch's global ones, with the names of today's."""

    def __init__(self, seed: int, of_torch: bool):
        self._legacy = np.random.RandomState(seed)
        self._torch = torch.Generator().manual_seed(seed) if of_torch else None

    def standard_normal(self, size: tuple[int, ...]) -> Any:
        if self._torch is None:
            return self._legacy.standard_normal(size)
        # They draw frame by frame, and torch's numbers depend on how many are drawn at once.
        return np.stack([torch.randn(size[1:], generator=self._torch).numpy() for _ in range(size[0])])

    def poisson(self, lam: Any) -> Any:
        return self._legacy.poisson(lam)


@pytest.fixture(scope="session")
def clean(reference) -> np.ndarray:
    with np.load(reference("cifar10_lossless.npz")) as file:
        return file["test_images"][:32]


def _videos_of_the_authors(reference, name: str) -> np.ndarray:
    return np.load(Path(reference("cifar-10-p-32")) / f"{name}.npy")


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_with_the_authors_random_numbers_the_videos_are_theirs(reference, clean, name):
    draws = _Replayed(2025 + PERTURBATIONS.index(name), of_torch=name.startswith("gaussian_noise"))
    got = perturb_with([draws] * len(clean), clean, name)
    difference = np.abs(got.astype(int) - _videos_of_the_authors(reference, name))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize("name", BY_CHANCE)
def test_with_our_random_numbers_changes_have_the_same_mean_deviation_andspectrum(reference, clean, name):
    still = clean[:, None].astype(float)
    ours, theirs = (
        videos - still for videos in (perturb(clean, name, seed=7), _videos_of_the_authors(reference, name))
    )
    statistics = {
        "mean": [videos.mean(axis=(1, 2, 3, 4))[:, None] for videos in (ours, theirs)],
        "deviation": [videos.std(axis=(1, 2, 3, 4))[:, None] for videos in (ours, theirs)],
        "log spectrum": [np.log(spectrum(videos) + 1) for videos in (ours, theirs)],
    }
    for what, (a, b) in statistics.items():
        # Each image has its own random numbers, so the 32 paired gaps are independent.
        standard_error = (a - b).std(axis=0, ddof=1) / np.sqrt(len(clean))
        assert (np.abs((a - b).mean(axis=0)) < 4.5 * standard_error + 0.02).all(), what


@given(cut=st.integers(0, 4), seed=st.integers(0, 2**64 - 1), name=st.sampled_from(PERTURBATIONS))
@settings(max_examples=40, deadline=None)
def test_chunks_come_out_as_with_the_whole(cut, seed, name):
    pictures = some_pictures(4)
    whole = perturb(pictures, name, seed)
    parts = [perturb(pictures[:cut], name, seed), perturb(pictures[cut:], name, seed, first_index=cut)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("size", [(8, 8), (40, 65)])
def test_other_sizes_work_and_the_input_stays_as_it_was(name, size):
    pictures = some_pictures(2, *size)
    pictures.flags.writeable = False
    got = perturb(pictures, name, seed=0)
    assert got.shape == (2, FRAMES[name], *size, 3)
    assert got.dtype == np.uint8
    assert perturb(pictures[:0], name, seed=0).shape == (0, FRAMES[name], *size, 3)


@pytest.mark.parametrize("name", BY_CHANCE)
def test_images_and_seeds_have_random_numbers_of_their_own(name):
    twins = np.repeat(some_pictures(1), 2, axis=0)
    first, second = perturb(twins, name, seed=1)
    assert (first != second).any()
    assert (perturb(twins, name, seed=2) != (first, second)).any()


@pytest.mark.parametrize(
    ("names", "frame"),
    [((*NOISES, "zoom_blur"), 0), (("rotate", "shear", "brightness", "scale"), 15), (("translate",), 7)],
)
def test_one_frame_shows_the_picture_itself(names, frame):
    pictures = some_pictures(3)
    for name in names:
        shown = perturb(pictures, name, seed=0)[:, frame].astype(int)
        # By brightness, values pass through floats and are cut off.
        assert np.abs(shown - pictures).max() <= (name == "brightness"), name


def test_frames_move_by_a_pixel_and_turn_by_the_angles_of_their_names():
    pictures = some_pictures(2)
    moved = perturb(pictures, "translate", seed=0)
    np.testing.assert_array_equal(moved[:, 10, :, 3:], pictures[:, :, :-3])
    assert not moved[:, 10, :, :3].any()
    np.testing.assert_array_equal(moved[:, 2, :, :-5], pictures[:, :, 5:])
    # Upside down, to turn clockwise is to turn anticlockwise.
    turned = perturb(pictures[:, ::-1], "rotate", seed=0)[:, :, ::-1]
    np.testing.assert_allclose(turned[:, 25].astype(int), perturb(pictures, "rotate", seed=0)[:, 5], atol=1)


def test_black_frames_of_spatter_can_be_had_assome_pictures(reference, clean):
    faithful = perturb(clean, "spatter", seed=3)
    mended = perturb(clean, "spatter", seed=3, black_spatter_frames=False)
    black = ~faithful.any(axis=(2, 3, 4))
    assert 0 < black.mean() < 0.3
    np.testing.assert_array_equal(mended[~black], faithful[~black])
    shown = np.broadcast_to(clean[:, None], mended.shape)[black].astype(int)
    assert np.abs(mended[black] - shown).max() <= 1  # cut off in single precision


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(SpecError, match=r"perturbation 'wobble' does not exist\. Take one of gaussian_noise, "):
        perturb(some_pictures(1), "wobble", seed=0)
    with pytest.raises(ValueError, match=r"got \(1, 32, 32, 3\) float64"):
        perturb(some_pictures(1).astype(float), "tilt", seed=0)
