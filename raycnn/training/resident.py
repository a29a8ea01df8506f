"""Images in the device's memory, as a training wants them."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from raycnn.training.batches import Images
from raycnn.training.loop import TrainingData

if TYPE_CHECKING:
    from raycnn.data.sources import DataSet


def training_data(
    data: "DataSet", train: np.ndarray, validation: np.ndarray, corrupted: np.ndarray | None, device: torch.device
) -> TrainingData:
    """Copies of the training images `train` and `validation` (indices) of a data set on `device`.

    corrupted: (corruptions, severities, n, h, w, 3) uint8, made of the first n validation images, or None.
    """
    images, labels = data.train.images, data.train.labels
    spoilt = None
    if corrupted is not None:
        kinds, severities, count = corrupted.shape[:3]
        held_out = np.tile(labels[validation[:count]], kinds * severities)
        spoilt = resident(corrupted.reshape(-1, *corrupted.shape[3:]), held_out, device)
    return TrainingData(
        train=resident(images[train], labels[train], device),
        validation=resident(images[validation], labels[validation], device),
        corrupted=spoilt,
        mean=data.mean,
        std=data.std,
        classes=len(data.class_names),
    )


def resident(images: np.ndarray, labels: np.ndarray, device: torch.device) -> Images:
    """(n, h, w, 3) uint8 as (n, 3, h, w) in channels_last order, and (n,) labels as int64, copied to the device."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return Images(pixels.to(device), torch.from_numpy(np.array(labels, dtype=np.int64)).to(device))
