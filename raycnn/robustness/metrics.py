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


ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
    "speckle_noise": 0.845388,
    "gaussian_blur": 0.787108,
    "spatter": 0.717512,
    "saturate": 0.658248,
}
"""AlexNet's error on each corruption of ImageNet-C, mean over severities: what its mCE is in units of. From the
authors' repository, github.com/hendrycks/robustness; rounded, they are those of the paper's table 1."""


_FEW_CLASSES = 16


def is_noise(perturbation: str) -> bool:
    """Whether frames are compared with the first frame (each has noise of its own) and not with the one before.

    True for gaussian_noise, shot_noise, speckle_noise and their `_2` and `_3`. Section 4.2 of the paper.
    """
    return "noise" in perturbation


def mean_ratio(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """mCE and mFR: values in units of a baseline network's, and their mean over parts; 1 is as good as it.

    values, baseline: (…, parts). Parts of mCE: each corruption's error, mean over severities (section 4.1, which prints
    percent and takes AlexNet for ImageNet-C: `ALEXNET_ERRORS`). Parts of mFR: flip probabilities (section 4.2).
    """
    return (values / baseline).mean(axis=-1)


def flips(predictions: np.ndarray, noise: bool, difficulty: int = 1) -> np.ndarray:
    """The flip probability of each video, (videos,): the fraction of its frame pairs on which the prediction differs.

    predictions: (videos, frames), integers. A pair is a frame and the one `difficulty` frames before it; where `noise`
    holds, it is a frame and the first, and the difficulty counts for nothing. Raises ValueError for too few frames.
    """
    before, after = _frame_pairs(predictions.shape[1], noise, difficulty)
    return np.mean(predictions[:, before] != predictions[:, after], axis=1)


def ranking_distances(
    logits: np.ndarray, kind: Literal["top5", "zipf"], noise: bool, difficulty: int = 1
) -> np.ndarray:
    """Mean distance, (videos,), between the rankings of the classes on paired frames. Pairs are those of `flips`.

    logits: (videos, frames, classes). With s(k) the rank on the later frame of the class that is k-th on the earlier:
    top5: sum over k = 1..5 of how many of the borders below ranks 1..5 lie between k and s(k);
    zipf: sum over all k of |1/k - 1/s(k)| / k.
    Classes with equal logits are ranked in their own order. Raises ValueError for too few frames.
    """
    before, after = _frame_pairs(logits.shape[1], noise, difficulty)
    ranks = _ranks(logits)
    # Summed over classes instead of ranks: a class is k-th on the earlier frame, s(k)-th on the later one.
    if kind == "top5":
        # Each of the top five is worth a step; ranks from the sixth on are all alike.
        depths = np.minimum(ranks, 5).astype(np.int16)
        earlier = depths[:, before]
        distances = np.abs(earlier - depths[:, after]) * (earlier < 5)
    else:
        weights = (1 / np.arange(1, logits.shape[-1] + 1))[ranks]
        earlier = weights[:, before]
        distances = np.abs(earlier - weights[:, after]) * earlier
    return distances.sum(axis=-1).mean(axis=1)


def _ranks(logits: np.ndarray) -> np.ndarray:
    """The rank of each class, from 0 for the largest logit; among equal ones the lower class is first."""
    classes = logits.shape[-1]
    if classes > _FEW_CLASSES:
        order = np.argsort(-logits, axis=-1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(classes), axis=-1)
        return ranks
    # Of few classes, comparing each with each is faster than sorting.
    ranks = np.zeros(logits.shape, np.int16)
    for one in range(classes):
        for other in range(one):
            ahead = logits[..., other] >= logits[..., one]
            ranks[..., one] += ahead
            ranks[..., other] += ~ahead
    return ranks


def confidences(logits: np.ndarray) -> np.ndarray:
    """The largest softmax probability of each image, float64 (images,). logits: (images, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return 1 / exponentials.sum(axis=-1)  # the largest exponential is 1


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability of the label, in nats, float64 (images,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=-1)) - np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over `bins` equal bins of confidence, weighted by images. In [0, 1].

    logits: (images, classes); labels: (images,). Confidence is the largest softmax probability; a bin is open below
    and closed above. Guo et al. 2017, arXiv:1706.04599, section 2 (there also 15 bins).
    """
    correct = logits.argmax(axis=-1) == labels
    return float(expected_gap(calibration_parts(confidences(logits), correct, bins).mean(axis=0)))


def rms_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """As `expected_calibration_error`, but the root of the mean square of the gaps, weighted by images. In [0, 1].

    Hendrycks, Mazeika & Dietterich 2019, arXiv:1812.04606, section 4.4, with equal bins instead of bins of 100 images.
    """
    correct = logits.argmax(axis=-1) == labels
    return float(rms_gap(calibration_parts(confidences(logits), correct, bins).mean(axis=0)))


def calibration_parts(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> np.ndarray:
    """What each image adds to calibration errors, (…, images, 2 bins): its gap and its count, in the bin it falls in.

    Means of these over images are what `expected_gap` and `rms_gap` take, so that images can be resampled.
    """
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)[..., None]
    parts = np.zeros((*confidence.shape, 2 * bins))
    np.put_along_axis(parts, index, (correct - confidence)[..., None], axis=-1)
    np.put_along_axis(parts, index + bins, 1.0, axis=-1)
    return parts


def expected_gap(means: np.ndarray) -> np.ndarray:
    """The expected calibration error, (…), of mean parts (…, 2 bins)."""
    return np.abs(means[..., : means.shape[-1] // 2]).sum(axis=-1)


def rms_gap(means: np.ndarray) -> np.ndarray:
    """The RMS calibration error, (…), of mean parts (…, 2 bins)."""
    gaps, shares = np.split(means, 2, axis=-1)
    squares = np.divide(gaps**2, shares, out=np.zeros_like(gaps), where=shares > 0)
    return np.sqrt(squares.sum(axis=-1))


def _frame_pairs(frames: int, noise: bool, difficulty: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the earlier and the later frame of each pair."""
    if difficulty < 1 or frames <= (1 if noise else difficulty):
        raise ValueError(f"frames are compared in pairs, got {frames} frames and difficulty {difficulty}")
    if noise:
        after = np.arange(1, frames)
        return np.zeros_like(after), after
    after = np.arange(difficulty, frames)
    return after - difficulty, after
