"""Metrics against the authors' values, the paper's formulas written out frame by frame, and cases worked by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from raycnn.robustness.metrics import (
    ALEXNET_ERRORS,
    MFP_PERTURBATIONS,
    cross_entropies,
    expected_calibration_error,
    flips,
    is_noise,
    mean_ratio,
    ranking_distances,
    rms_calibration_error,
)


@pytest.mark.parametrize("difficulty", [1, 2, 3])
@pytest.mark.parametrize("noise", [False, True])
def test_perturbation_metrics_equal_the_values_of_the_authors_functions(reference, noise, difficulty):
    folder = reference("metrics")
    expected = json.loads((folder / "expected.json").read_text())["p"][f"noise_{noise}_difficulty_{difficulty}".lower()]
    logits = np.load(folder / "p_logits.npy")
    assert flips(logits.argmax(-1), noise, difficulty).mean() == pytest.approx(expected["flip_prob"], abs=1e-6)
    for kind in ("top5", "zipf"):
        distance = ranking_distances(logits, kind, noise, difficulty).mean()
        assert distance == pytest.approx(expected[f"ranking_dist_{kind}"], abs=1e-6)


def _distance_of_the_paper(earlier: np.ndarray, later: np.ndarray, kind: str) -> float:
    """Section 4.2: d(tau(x), tau(x')) for the ranks 1..m of each class on two frames."""
    sigma = later[np.argsort(earlier)].astype(int)  # sigma(i): where the i-th class went
    if kind == "zipf":
        return sum(abs(1 / i - 1 / s) / i for i, s in enumerate(sigma, start=1))
    return sum(
        sum(1 for j in range(min(i, s) + 1, max(i, s) + 1) if 1 <= j - 1 <= 5) for i, s in enumerate(sigma[:5], start=1)
    )


@given(
    videos=st.integers(1, 3),
    frames=st.integers(4, 6),
    classes=st.integers(2, 12),
    noise=st.booleans(),
    difficulty=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_ranking_distances_follow_the_formula_of_the_paper_even_among_ties(
    videos, frames, classes, noise, difficulty, seed
):
    logits = np.random.default_rng(seed).integers(0, 5, (videos, frames, classes)).astype(np.float32)
    ranks = rankdata(-logits, method="ordinal", axis=-1)
    step = 1 if noise else difficulty
    for kind in ("top5", "zipf"):
        wanted = [
            _distance_of_the_paper(video[0 if noise else frame - step], video[frame], kind)
            for video in ranks
            for frame in range(step, frames)
        ]
        assert ranking_distances(logits, kind, noise, difficulty).mean() == pytest.approx(np.mean(wanted))


def test_a_still_video_never_flips_and_a_strobe_always_does():
    still = np.full((2, 5), 3)
    strobe = np.tile([1, 2, 1, 2, 1], (2, 1))
    assert flips(still, noise=False).tolist() == [0, 0]
    assert flips(strobe, noise=False).tolist() == [1, 1]
    assert flips(strobe, noise=False, difficulty=2).tolist() == [0, 0]
    assert flips(strobe, noise=True).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("difficulty", [0, 4])
def test_frames_without_a_partner_are_refused(difficulty):
    with pytest.raises(ValueError, match="frames are compared in pairs, got 4 frames"):
        flips(np.zeros((1, 4)), noise=False, difficulty=difficulty)


def test_calibration_error_of_a_case_worked_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.58, 0.42], [0.45, 0.55]])
    labels = np.array([0, 1, 0, 0])
    # Bins of a fifth: (0.8, 1] holds two of 0.9, half of them right; (0.4, 0.6] holds 0.58, right, and 0.55, wrong.
    wanted = 2 / 4 * abs(0.5 - 0.9) + 2 / 4 * abs(0.5 - 0.565)
    assert expected_calibration_error(np.log(probabilities), labels, bins=5) == pytest.approx(wanted)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_the_worst():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], dtype=np.float32)
    assert expected_calibration_error(logits, np.array([0, 1])) == 0
    assert expected_calibration_error(logits, np.array([1, 0])) == 1


def test_the_mean_over_perturbations_takes_the_noises_at_one_scale_and_frame_0_only_for_noises():
    assert len(set(MFP_PERTURBATIONS)) == 10
    assert [name for name in MFP_PERTURBATIONS if is_noise(name)] == ["gaussian_noise", "shot_noise"]
    assert is_noise("speckle_noise_3")


def test_rms_calibration_error_of_the_same_case():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.58, 0.42], [0.45, 0.55]])
    labels = np.array([0, 1, 0, 0])
    wanted = np.sqrt(2 / 4 * (0.5 - 0.9) ** 2 + 2 / 4 * (0.5 - 0.565) ** 2)
    assert rms_calibration_error(np.log(probabilities), labels, bins=5) == pytest.approx(wanted)


@given(seed=st.integers(0, 1000), bins=st.integers(1, 20))
def test_the_root_of_the_mean_square_is_no_less_than_the_mean(seed, bins):
    random = np.random.default_rng(seed)
    logits, labels = 3 * random.normal(size=(40, 4)), random.integers(0, 4, 40)
    mean = expected_calibration_error(logits, labels, bins)
    assert 0 <= mean <= rms_calibration_error(logits, labels, bins) + 1e-12 <= 1 + 1e-12


def test_the_loss_is_torchs_cross_entropy():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    logits, labels = 50 * random.normal(size=(30, 7)), random.integers(0, 7, 30)
    wanted = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none")
    np.testing.assert_allclose(cross_entropies(logits, labels), wanted.numpy())


def test_videos_have_flip_probabilities_of_their_own():
    np.testing.assert_array_equal(flips(np.array([[1, 1, 2], [3, 3, 3]]), noise=False), [0.5, 0])


def test_a_mean_ratio_is_that_of_a_case_worked_by_hand():
    errors, baseline = np.array([[0.1, 0.3], [0.2, 0.2]]), np.array([[0.4, 0.4], [0.2, 0.6]])
    # The paper divides sums over severities, section 4.1: 0.4 / 0.8 for either corruption.
    assert mean_ratio(errors.mean(axis=1), baseline.mean(axis=1)) == pytest.approx((0.4 / 0.8 + 0.4 / 0.8) / 2)
    flip_probabilities = np.array([[0.1, 0.2], [0.2, 0.2]])  # of two networks
    np.testing.assert_allclose(mean_ratio(flip_probabilities, np.array([0.2, 0.1])), [(0.5 + 2) / 2, (1 + 2) / 2])


def test_the_mean_of_alexnets_errors_is_that_of_the_paper():
    # Over the 15 test corruptions, 0.79.
    assert np.mean(list(ALEXNET_ERRORS.values())[:15]) == pytest.approx(0.79, abs=0.01)
