"""Images in the device's memory, as a training wants them, or streamed to it where they are too many."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from raycnn.training.batches import Images
from raycnn.training.loop import TrainingData

if TYPE_CHECKING:
    from raycnn.data.sources import DataSet

RESIDENT_CPU_BYTES = 2**30  # above, a processor reads from the memory map, which all workers share
RESIDENT_GPU_SHARE = 0.4  # of the memory that a process may have; the rest is for the network


def training_data(
    data: "DataSet",
    train: np.ndarray,
    validation: np.ndarray,
    corrupted: np.ndarray | None,
    device: torch.device,
    streamed: bool | None = None,
    share: float = 1.0,
) -> TrainingData:
    """The training images `train` and `validation` (indices) of a data set for a training on `device`.

    corrupted: (corruptions, severities, n, h, w, 3) uint8, made of the first n validation images, or None.
    streamed: whether they stay in their memory map on the host; None: if they are too large for the device.
    share: the fraction of a GPU that this process has; others have the rest.
    """
    images, labels = data.train.images, data.train.labels
    room = _room(device, share)
    if streamed is None:
        streamed = images.nbytes > room
    if device.type == "cuda" and not streamed:
        room -= images.nbytes  # the corrupted ones get what is left
    spoilt = None
    if corrupted is not None:
        kinds, severities, count = corrupted.shape[:3]
        theirs = np.tile(labels[validation[:count]], kinds * severities)
        flat = corrupted.reshape(-1, *corrupted.shape[3:])
        spoilt = _images(flat, theirs, np.arange(len(flat)), device, flat.nbytes > room)
    both = _images(images, labels, np.concatenate([train, validation]), device, streamed)
    of_training, held_out = both.split(len(train))  # in one piece, which is what finals train on
    return TrainingData(
        train=of_training,
        validation=held_out,
        corrupted=spoilt,
        mean=data.mean,
        std=data.std,
        classes=len(data.class_names),
    )


def _room(device: torch.device, share: float) -> float:
    """Bytes of images that `device` can hold for a process that has this share of it."""
    if device.type != "cuda":
        return RESIDENT_CPU_BYTES
    free, total = torch.cuda.mem_get_info(device)
    return RESIDENT_GPU_SHARE * min(free, share * total)


def _images(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, device: torch.device, streamed: bool) -> Images:
    """images: (n, h, w, 3) uint8; labels: of all of them, or of the chosen ones."""
    of_chosen = labels[chosen] if len(labels) == len(images) else labels
    wanted = torch.from_numpy(np.array(of_chosen, dtype=np.int64)).to(device)
    if streamed:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nobody writes
            stored = torch.from_numpy(images)
        return Images(stored.permute(0, 3, 1, 2), wanted, torch.from_numpy(np.array(chosen, dtype=np.int64)))
    pixels = torch.from_numpy(np.array(images[chosen])).permute(0, 3, 1, 2)
    return Images(pixels.to(device), wanted)
