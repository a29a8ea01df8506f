"""FastNet: a small network for processors without an accelerator."""

import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.errors import SpecError


class FastNet(nn.Module):
    """Five 3x3 convolutions, about 0.3 M parameters; the image shrinks early, because memory traffic costs the time."""

    width = 128

    def __init__(self, image_px: int):
        super().__init__()
        if image_px < 8:
            raise SpecError(f"model: fastnet needs images of at least 8 px, got {image_px}. Set data.image_px.")
        self.layers = nn.Sequential(
            _layer(3, 32),
            nn.MaxPool2d(2),
            _layer(32, 64),
            _layer(64, 64),
            nn.MaxPool2d(2),
            _layer(64, 128),
            _layer(128, 128),
        )

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        return F.adaptive_max_pool2d(self.layers(images), 1).flatten(1)


def _layer(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
