"""Scores of networks whose batch norm is adapted to the test images: a setting of its own, never mixed with the others.

Schneider et al. 2020, arXiv:2006.16971: at test time, the statistics of batch norm are those of the corrupted images
themselves (here all images of a severity; N = 0 in the paper's terms). No label is used, but the
test images themselves have changed the network.
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raycnn.errors import SpecError
from raycnn.robustness.archives import CorruptionFile
from raycnn.robustness.corruptions import SEVERITIES
from raycnn.robustness.evaluate import Models, logits_of_all, on_device
from raycnn.robustness.results import Row, Scored

_BATCH = 500  # statistics are means over such batches, or over halves of them where the device's memory is too small
_FEWEST = 2  # of one image, some layers have no variance


def score_adapted(
    models: Models,
    file: CorruptionFile,
    labels: np.ndarray,
    device: torch.device,
    set_name: str,
    precision: str = "fp32",
) -> list[Scored]:
    """Each severity of a CIFAR-10-C file, `adapted_errors` alone. The models themselves keep their statistics.

    Raises SpecError for a network without batch norm.
    """
    found = []
    for severity, images in zip(SEVERITIES, file.images(), strict=True):
        for key, model in models.items():
            twin = {key: _adapted(model, images, device, key[0])}
            scores = logits_of_all(twin, images, device, precision=precision)[key]
            wrong = scores.argmax(axis=-1) != labels
            row = Row(*key, set_name, file.name, severity, len(labels), adapted_errors=int(wrong.sum()))
            found.append(Scored(row, {"wrong": wrong}))
    return found


def _adapted(model: nn.Module, images: np.ndarray, device: torch.device, name: str) -> nn.Module:
    """A copy with the statistics of `images`, (n, height, width, 3) uint8."""
    twin = copy.deepcopy(model).to(device).eval()
    norms = [module for module in twin.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        raise SpecError(f"batch_norm_adapted: {name} has no batch norm. Take it out of the scoring.")
    for norm in norms:
        norm.momentum = None  # a plain mean over batches
        norm.train()
    size = _BATCH
    while not _measure(twin, norms, images, size, device):
        size //= 2
    return twin.eval()


def _measure(twin: nn.Module, norms: list[_BatchNorm], images: np.ndarray, size: int, device: torch.device) -> bool:
    """Changes `twin`: its norms' statistics become those of `images`. False: its memory holds no batches of this size.

    Raises torch.OutOfMemoryError where it does not hold two images.
    """
    for norm in norms:
        norm.reset_running_stats()
    try:
        with torch.no_grad():
            # Equal batches, each as near to `size` images as can be, for each counts alike.
            for batch in np.array_split(np.arange(len(images)), max(1, round(len(images) / size))):
                twin(on_device(images[batch[0] : batch[-1] + 1], device))
    except torch.OutOfMemoryError:
        if size <= _FEWEST:
            raise
        return False
    return True
