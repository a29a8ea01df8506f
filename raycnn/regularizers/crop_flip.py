"""Random crop of the padded image, and random mirror image: the augmentation of every published CIFAR recipe."""

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_crops(count: int, padding_px: int, generator: torch.Generator) -> Tensor:
    """Upper left corners of `count` crops in the padded image, uniform: (count, 2) int64, row and column."""
    return torch.randint(0, 2 * padding_px + 1, (count, 2), generator=generator)


def draw_flips(count: int, generator: torch.Generator) -> Tensor:
    """Which of `count` images are mirrored: half of them on average. (count,) bool."""
    return torch.rand(count, generator=generator) < 0.5


def crop(images: Tensor, corners: Tensor, padding_px: int, padding: str = "zero") -> Tensor:
    """Pad each image with `padding_px` pixels on every side and cut its original size out at `corners`.

    images: (batch, channels, height, width), best uint8 and channels_last, not normalised, so that zeros are black.
    corners: (batch, 2) from `draw_crops`. padding: "zero", He et al. 2016, arXiv:1512.03385, section 4.2; "reflect",
    the image mirrored at its border pixels, as in airbench (Jordan 2024, arXiv:2404.00498), for which padding_px must
    be less than the sides. Returns a new tensor of the same shape and type, channels_last.
    """
    batch, channels, height, width = images.shape
    rows, row = height + 2 * padding_px, (width + 2 * padding_px) * channels  # of the padded image, channels last
    padded = _padded(images.permute(0, 2, 3, 1), padding_px, padding)
    # Every element starts a window, and windows overlap: one gather then cuts all crops, with no index per pixel.
    starts = batch * rows * row - (height - 1) * row - width * channels + 1
    windows = padded.as_strided((starts, height, width * channels), (1, row, 1))
    first = torch.arange(0, batch * rows * row, rows * row, device=images.device)
    chosen = windows[first + corners[:, 0] * row + corners[:, 1] * channels]
    return chosen.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _padded(stored: Tensor, padding_px: int, padding: str) -> Tensor:
    """(batch, height, width, channels), contiguous."""
    if padding == "zero":
        return F.pad(stored, (0, 0, padding_px, padding_px, padding_px, padding_px)).contiguous()
    for side in (1, 2):  # torch reflects no bytes
        length = stored.shape[side]
        places = torch.arange(-padding_px, length + padding_px, device=stored.device).abs()
        stored = stored.index_select(side, length - 1 - (length - 1 - places).abs())
    return stored


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images whose entry in `flips` (batch,) is true. A new tensor, channels_last.

    images: (batch, channels, height, width), best channels_last.
    """
    stored = images.permute(0, 2, 3, 1)
    both = torch.stack((stored, stored.flip(2)), dim=1)  # to copy whole images is faster than to choose by pixel
    first = torch.arange(0, 2 * len(images), 2, device=images.device)
    return both.flatten(0, 1).flatten(1).index_select(0, first + flips).view(stored.shape).permute(0, 3, 1, 2)
