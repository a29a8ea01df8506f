"""The network of airbench: a small, shallow and fast one for GPUs. Jordan 2024, arXiv:2404.00498, section 3 and A.

Its first layer whitens 2x2 patches of the training images and is not trained; convolutions begin as (partial)
identities; batch norm has no scale. The paper trains it to 94 % on CIFAR-10 in 9.9 epochs.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.errors import SpecError

PATCH_PX = 2
WHITENING_EPS = 5e-4
LOGIT_SCALE = 1 / 9


class Airbench(nn.Module):
    """Seven convolutions, 1.97 M parameters."""

    width = 256

    def __init__(self, image_px: int):
        super().__init__()
        if image_px < 16:
            raise SpecError(f"model: airbench94 needs images of at least 16 px, got {image_px}. Set data.image_px.")
        patch = 3 * PATCH_PX**2
        self.whiten = nn.Conv2d(3, 2 * patch, PATCH_PX)
        nn.init.zeros_(cast(Tensor, self.whiten.bias))
        self.whiten.weight.requires_grad_(False)
        self.blocks = nn.Sequential(Block(2 * patch, 64), Block(64, 256), Block(256, 256))

    @torch.no_grad()
    def begin_with(self, images: Tensor) -> None:
        """Changes the first layer: its filters are the principal components of the patches of `images` (n, 3, side,
        side), normalised, each divided by its standard deviation, and their negatives."""
        patches = F.unfold(images.float(), PATCH_PX).transpose(1, 2).flatten(0, 1)
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (components / (variances + WHITENING_EPS).sqrt()).T.flip(0).view(-1, 3, PATCH_PX, PATCH_PX)
        self.whiten.weight.copy_(torch.cat((filters, -filters)))

    def features(self, images: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, width)."""
        x = self.blocks(F.gelu(self.whiten(images)))
        # Not amax: compiled in bf16, torch 2.11 to 2.14 divide its gradient by a count of maxima that is 0.
        return F.max_pool2d(x, x.shape[2]).flatten(1) * LOGIT_SCALE


class Block(nn.Module):
    """Convolution, 2x2 max pooling, norm, gelu, convolution, norm, gelu."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.conv1, self.norm1 = _identity_conv(width, out), _norm(out)
        self.conv2, self.norm2 = _identity_conv(out, out), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, side, side) -> (batch, out, side // 2, side // 2)."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def _identity_conv(width: int, out: int) -> nn.Conv2d:
    """A 3x3 convolution whose first `width` filters pass their input on."""
    conv = nn.Conv2d(width, out, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:width])
    return conv


def _norm(width: int) -> nn.BatchNorm2d:
    """Batch norm with a bias and no scale; the newest batch weighs 0.4 in its statistics."""
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
