"""Classifier: a network with its normalisation and its heads, so that it cannot be scored with the wrong constants."""

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn


class Network(Protocol):
    """What a network offers beside being an nn.Module. `width` is the length of its feature vectors."""

    width: int

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) normalised float -> (batch, width)."""
        ...


@runtime_checkable
class BeginsWithData(Protocol):
    """A network whose initial weights depend on the training images."""

    def begin_with(self, images: Tensor) -> None:
        """Changes the network. images: (n, 3, side, side), some training images, normalised."""
        ...


class Classifier(nn.Module):
    """Logits from images as they are stored.

    mean, std: per channel, as fractions of 1. rotation: with a second head that predicts quarter turns (4 logits).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, classes: int, mean: Sequence[float], std: Sequence[float], rotation: bool):
        super().__init__()
        self.network = cast(nn.Module, network)
        self.head = nn.Linear(network.width, classes)
        self.rotation_head = nn.Linear(network.width, 4) if rotation else None
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side), uint8 or float in [0, 1] -> (batch, classes) float32 logits."""
        return self.head(self.features(self.normalise(images))).float()

    def normalise(self, images: Tensor) -> Tensor:
        """(image - mean) / std. uint8 or float in [0, 1] -> float32, same shape, channels_last."""
        unit = 1.0 if images.is_floating_point() else 255.0
        rows = images.permute(0, 2, 3, 1).flatten(2)  # (batch, height, width * 3): three times as fast as by channel
        scale, offset = 1 / (unit * self.std), -self.mean / self.std
        width = images.shape[3]
        # Not addcmul, which with one thread takes five times as long for rows of this form.
        normalised = (rows.float() * scale.repeat(width)).add_(offset.repeat(width))
        return normalised.unflatten(2, (width, 3)).permute(0, 3, 1, 2)

    def features(self, normalised: Tensor) -> Tensor:
        """(batch, 3, side, side) normalised -> (batch, width)."""
        return cast(Network, self.network).features(normalised)
