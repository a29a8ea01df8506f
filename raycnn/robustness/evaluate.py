"""From models and images to rows of robustness.parquet. Images are read once, however many models look at them."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from raycnn.errors import CheckpointError
from raycnn.robustness.archives import CorruptionFile, PerturbationFile
from raycnn.robustness.corruptions import SEVERITIES, corrupt
from raycnn.robustness.imagenet_c import PictureFolders
from raycnn.robustness.metrics import (
    confidences,
    cross_entropies,
    expected_calibration_error,
    flips,
    is_noise,
    ranking_distances,
    rms_calibration_error,
)
from raycnn.robustness.results import Key, Row, Scored
from raycnn.training.memory import ByMemory
from raycnn.training.precision import autocast

Models = Mapping[Key, nn.Module]
"""(name of the model, seed of its training) -> the model. It takes (batch, 3, side, side), uint8 or float in [0, 1]."""

# Images at once, at most. On processors, FastNet's activations for 100 images stay in the cache: 1.45 times the rate of
# 1000.
_BATCH = {"cpu": 100}
_BATCH_ELSEWHERE = 1000


def score_clean(
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    set_name: str = "clean",
    precision: str = "fp32",
) -> list[Scored]:
    """Images as they are, name "clean", severity 0.

    set_name: "cifar-10-c" for the first n test images that stand beside a CIFAR-10-C directory. For images, labels and
    what happens to the models, see `logits_of_all`.
    """
    scores = logits_of_all(models, images, device, precision=precision)
    return [scored_images(key, set_name, "clean", 0, one, labels) for key, one in scores.items()]


def score_corruption(
    models: Models,
    file: CorruptionFile,
    labels: np.ndarray,
    device: torch.device,
    set_name: str = "cifar-10-c",
    precision: str = "fp32",
) -> list[Scored]:
    """Each severity of a CIFAR-10-C file. labels: (n,), those of its archive."""
    images = file.images()
    scores = logits_of_all(models, images.reshape(-1, *images.shape[2:]), device, precision=precision)
    return [
        scored_images(key, set_name, file.name, severity, one, labels)
        for key, flat in scores.items()
        for severity, one in zip(SEVERITIES, flat.reshape(len(SEVERITIES), file.n, -1), strict=True)
    ]


def score_pictures(
    models: Models, file: PictureFolders, side_px: int, device: torch.device, precision: str = "fp32"
) -> list[Scored]:
    """As `score_corruption`, set "imagenet-c", of a corruption of ImageNet-C, whose pictures are brought to side_px."""
    found = []
    for severity in SEVERITIES:
        batches = file.batches(severity, default_batch_size(device), side_px)
        scores = logits_of_batches(models, batches, device, precision)
        found += [
            scored_images(key, "imagenet-c", file.name, severity, one, file.labels) for key, one in scores.items()
        ]
    return found


def score_generated(
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    name: str,
    seed: int,
    device: torch.device,
    precision: str = "fp32",
) -> list[Scored]:
    """As `score_corruption`, set "generated-c", of test images that are corrupted here. Raises what `corrupt` does."""
    found = []
    for severity in SEVERITIES:
        scores = logits_of_all(models, corrupt(images, name, severity, seed), device, precision=precision)
        found += [scored_images(key, "generated-c", name, severity, one, labels) for key, one in scores.items()]
    return found


def score_perturbation(models: Models, file: PerturbationFile, device: torch.device) -> list[Scored]:
    """Flip probability, top-5 and zipf distance on a CIFAR-10-P file, at difficulty 1, as published. No severity.

    Always in float32: the rounding of bf16 would move ranks from frame to frame.
    """
    videos = file.videos()
    scores = logits_of_all(models, videos.reshape(-1, *videos.shape[2:]), device)
    return [
        _scored_videos(key, "cifar-10-p", file.name, flat.reshape(file.n, file.frames, -1))
        for key, flat in scores.items()
    ]


def scored_images(
    key: Key, set_name: str, name: str, severity: int | None, scores: np.ndarray, labels: np.ndarray
) -> Scored:
    """The row of some images. scores: logits, (n, classes); labels: (n,)."""
    wrong = scores.argmax(axis=-1) != labels
    row = Row(
        *key,
        set_name,
        name,
        severity,
        n=len(labels),
        errors=int(wrong.sum()),
        loss=float(cross_entropies(scores, labels).mean()),
        calibration=expected_calibration_error(scores, labels),
        rms_calibration=rms_calibration_error(scores, labels),
    )
    outcomes = {"wrong": wrong}
    if severity == 0:  # for the intervals of calibration errors; of all corruptions, they would be 30 MB a training
        outcomes["confidence"] = confidences(scores)
    return Scored(row, outcomes)


def _scored_videos(key: Key, set_name: str, name: str, scores: np.ndarray) -> Scored:
    """scores: logits, (n, frames, classes)."""
    noise = is_noise(name)
    outcomes = {
        "flips": flips(scores.argmax(axis=-1), noise),
        "top5": ranking_distances(scores, "top5", noise),
        "zipf": ranking_distances(scores, "zipf", noise),
    }
    flip, top5, zipf = (float(values.mean()) for values in outcomes.values())
    row = Row(*key, set_name, name, None, len(scores), flip_probability=flip, top5_distance=top5, zipf_distance=zipf)
    return Scored(row, outcomes)


def logits(model: nn.Module, images: np.ndarray, device: torch.device, batch_size: int | None = None) -> np.ndarray:
    """Changes `model`: it is moved to the device, in eval mode. Its logits, (n, classes) float32.

    images: (n, height, width, 3) uint8, in memory or memory-mapped. Computed in float32.
    """
    return logits_of_all({("model", 0): model}, images, device, batch_size)["model", 0]


def logits_of_all(
    models: Models,
    images: np.ndarray,
    device: torch.device,
    batch_size: int | None = None,
    precision: str = "fp32",
) -> dict[Key, np.ndarray]:
    """Changes `models`, as `logits` does. Their logits, in one pass over the images.

    precision: "fp32", or "bf16", which predicts otherwise for 2 to 3 images of 1,000, rightly as often as wrongly.
    Raises CheckpointError for a model whose logits are not finite.
    """
    size = batch_size or default_batch_size(device)
    batches = (images[start : start + size] for start in range(0, len(images), size))
    return logits_of_batches(models, batches, device, precision)


def logits_of_batches(
    models: Models, batches: Iterable[np.ndarray], device: torch.device, precision: str = "fp32"
) -> dict[Key, np.ndarray]:
    """As `logits_of_all`, of images that come in batches."""
    for model in models.values():
        model.to(device).eval()
    found: dict[Key, list[Tensor]] = {key: [] for key in models}
    sizes = {key: ByMemory() for key in models}
    with torch.inference_mode(), autocast(precision, device):
        for images in batches:
            batch = on_device(images, device)
            for key, model in models.items():
                found[key] += sizes[key].parts(len(batch), lambda a, b, model=model, batch=batch: model(batch[a:b]))
        # Results stay on the device until here: nothing waits for it while there are batches to be queued.
        scores = {key: torch.cat(parts).float().cpu().numpy() for key, parts in found.items()}
    for (name, seed), one in scores.items():
        if not np.isfinite(one).all():
            raise CheckpointError(
                f"{name}, seed {seed}: its logits are not finite, so it has no score. Train it again."
            )
    return scores


def default_batch_size(device: torch.device) -> int:
    return _BATCH.get(device.type, _BATCH_ELSEWHERE)


def on_device(images: np.ndarray, device: torch.device) -> Tensor:
    """(n, height, width, 3) uint8 array -> (n, 3, height, width) uint8 tensor, channels last, copied once."""
    # Pinned memory lets the copy to a GPU run beside its computing; torch keeps the block until the copy is done.
    host = torch.empty(images.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    host.numpy()[...] = images
    return host.to(device, non_blocking=True).permute(0, 3, 1, 2)
