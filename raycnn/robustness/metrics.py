"""The numbers of the robustness benchmarks: arrays in, numbers out. All of them are to be minimised.

Formulas follow Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (arXiv:1903.12261), section 4, not divided by a baseline network's values.
"""

from typing import Literal

import numpy as np

MFP_PERTURBATIONS = (
    "gaussian_noise",
    "shot_noise",
    "motion_blur",
    "zoom_blur",
    "spatter",
    "brightness",
    "translate",
    "rotate",
    "tilt",
    "scale",
)
"""The ten perturbations whose mean is the mean flip probability: those that the authors' evaluation of CIFAR-10-P
averages over, for the noises at their first scale only."""


def is_noise(perturbation: str) -> bool:
    """Whether frames are compared with the first frame (each has noise of its own) and not with the one before.

    True for gaussian_noise, shot_noise, speckle_noise and their `_2` and `_3`. Section 4.2 of the paper.
    """
    return "noise" in perturbation


def corruption_errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Error of each corruption at each severity, fractions in [0, 1].

    logits: (corruptions, severities, images, classes); labels: (images,), integers. Returns (corruptions, severities).
    Where two classes tie, the lower one is the prediction, as everywhere here.
    """
    if logits.ndim != 4 or labels.shape != logits.shape[2:3]:
        raise ValueError(
            "corruption_errors wants logits (corruptions, severities, images, classes) and labels (images,), "
            f"got {logits.shape} and {labels.shape}"
        )
    return np.mean(logits.argmax(axis=-1) != labels, axis=-1)


def mean_corruption_error(errors: np.ndarray) -> float:
    """Mean over severities, then over corruptions, of errors (corruptions, severities).

    Which corruptions are given decides what the number is called: the 15 test ones give mce15, all 19 mce19.
    """
    return float(np.mean(np.mean(errors, axis=1)))


def flip_probability(predictions: np.ndarray, noise: bool, difficulty: int = 1) -> float:
    """Fraction of frame pairs on which the prediction differs, in [0, 1].

    predictions: (videos, frames), integers. A pair is a frame and the one `difficulty` frames before it; where `noise`
    holds, it is a frame and the first, and the difficulty counts for nothing. Raises ValueError for too few frames.
    """
    before, after = _frame_pairs(predictions.shape[1], noise, difficulty)
    return float(np.mean(predictions[:, before] != predictions[:, after]))


def ranking_distance(logits: np.ndarray, kind: Literal["top5", "zipf"], noise: bool, difficulty: int = 1) -> float:
    """Mean distance between the rankings of the classes on paired frames. Pairs are those of `flip_probability`.

    logits: (videos, frames, classes). With s(k) the rank on the later frame of the class that is k-th on the earlier:
    top5: sum over k = 1..5 of how many of the borders below ranks 1..5 lie between k and s(k);
    zipf: sum over all k of |1/k - 1/s(k)| / k.
    Classes with equal logits are ranked in their own order. Raises ValueError for too few frames.
    """
    before, after = _frame_pairs(logits.shape[1], noise, difficulty)
    order = np.argsort(-logits, axis=-1, kind="stable")  # class at each rank, both from 0
    ranks = np.empty_like(order)  # rank of each class
    np.put_along_axis(ranks, order, np.arange(logits.shape[-1]), axis=-1)
    moved_to = np.take_along_axis(ranks[:, after], order[:, before], axis=-1)

    rank = np.arange(logits.shape[-1])
    if kind == "top5":
        # Each of the top five is worth a step; ranks from the sixth on are all alike.
        depth = np.minimum(rank, 5)
        distances = np.abs(depth - depth[moved_to])[..., :5]
    else:
        weight = 1 / (rank + 1)
        distances = np.abs(weight - weight[moved_to]) * weight
    return float(np.mean(distances.sum(axis=-1)))


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over `bins` equal bins of confidence, weighted by images. In [0, 1].

    logits: (images, classes); labels: (images,). Confidence is the largest softmax probability; a bin is open below
    and closed above. Guo et al. 2017, arXiv:1706.04599, section 2 (there also 15 bins).
    """
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    confidence = 1 / exponentials.sum(axis=-1)  # the largest exponential is 1
    correct = logits.argmax(axis=-1) == labels
    bin_of_image = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(bin_of_image, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def _frame_pairs(frames: int, noise: bool, difficulty: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the earlier and the later frame of each pair."""
    if difficulty < 1 or frames <= (1 if noise else difficulty):
        raise ValueError(f"frames are compared in pairs, got {frames} frames and difficulty {difficulty}")
    if noise:
        after = np.arange(1, frames)
        return np.zeros_like(after), after
    after = np.arange(difficulty, frames)
    return after - difficulty, after
