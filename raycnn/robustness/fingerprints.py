"""What tells scores apart: fingerprints of the images that a unit is scored on, and of a network's weights."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from raycnn.data.dataset import ImageSet
from raycnn.robustness.archives import CorruptionFile, PerturbationFile
from raycnn.robustness.imagenet_c import PictureFolders

if TYPE_CHECKING:
    from raycnn.robustness.units import Unit

_SAMPLES, _SAMPLE_BYTES = 16, 512


def of_images(unit: "Unit", test: ImageSet) -> str:
    """Of what a unit is scored on: labels, some images, and how they are changed."""
    labels = test.labels[: unit.n]
    match unit.file:
        case CorruptionFile():
            images = unit.file.images(read_ahead=False).reshape(-1)
        case PerturbationFile():
            images = unit.file.videos(read_ahead=False).reshape(-1)
        case PictureFolders():
            images, labels = np.frombuffer(unit.file.fingerprint(unit.side_px), np.uint8), unit.file.labels
        case _:
            images = test.images[: unit.n].reshape(-1)
    digest = hashlib.sha256(repr((unit.n, unit.seed, unit.epsilons, unit.steps, images.shape)).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    # A few thousand bytes from all over: enough to tell data sets apart, without a second pass over them.
    for start in np.linspace(0, max(0, len(images) - _SAMPLE_BYTES), _SAMPLES, dtype=np.int64):
        digest.update(np.ascontiguousarray(images[start : start + _SAMPLE_BYTES]).data)
    return digest.hexdigest()[:16]


def of_weights(model: nn.Module) -> str:
    """Of all parameters and buffers; the same on every device."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().flatten().contiguous().view(torch.uint8).numpy().data)
        else:  # what a module of somebody else's keeps beside tensors
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()[:16]
