"""FastNet: a small network for processors without an accelerator.

There the passes over memory cost the time, more than the convolutions: norm, relu and pooling of a layer as wide as the
image. So the stem halves the image at once, pooling comes before norm and relu (as in airbench, Jordan 2024,
arXiv:2404.00498), and the weights lie where the image is small.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.errors import SpecError


class FastNet(nn.Module):
    """Five convolutions, 0.28 M parameters, 14.5 M multiply-adds for an image of 32 px."""

    width = 128

    def __init__(self, image_px: int):
        super().__init__()
        if image_px < 8:
            raise SpecError(f"model: fastnet needs images of at least 8 px, got {image_px}. Set data.image_px.")
        self.layers = nn.Sequential(
            Layer(3, 32, kernel_px=4, stride=2),
            Layer(32, 64, pool=True),
            Layer(64, 64),
            Layer(64, 128, pool=True),
            Layer(128, 128),
        )

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        x = self.layers(images)
        return F.max_pool2d(x, x.shape[2]).flatten(1)  # not amax, as in airbench


class Layer(nn.Module):
    """Convolution, perhaps 2x2 max pooling, batch norm, relu."""

    def __init__(self, width: int, out: int, kernel_px: int = 3, stride: int = 1, pool: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel_px, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, side, side) -> (batch, out, side, side), the side halved by stride 2 and by pooling."""
        x = self.conv(x)
        if self.pool:
            x = F.max_pool2d(x, 2)
        return F.relu(self.norm(x), inplace=True)
