"""Rotation prediction: a second head tells by how many quarter turns an image was rotated."""

import torch
from torch import Tensor


def draw_turns(count: int, views: int, generator: torch.Generator) -> Tensor:
    """For each of `count` images, `views` different numbers of quarter turns, 0 to 3. (count, views) int64.

    views = 4: all of them, in order; fewer: a random choice for each image.
    """
    if views == 4:
        return torch.arange(4).expand(count, 4)
    return torch.rand(count, 4, generator=generator).argsort(dim=1)[:, :views]


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Turn image i counterclockwise by `turns[i]` quarters (0 to 3). A new tensor, channels_last.

    images: (batch, channels, side, side); turns: (batch,) int64.
    Gidaris et al. 2018, arXiv:1803.07728; Hendrycks et al. 2019, arXiv:1906.12340.
    """
    turned = images
    for quarter in (1, 2, 3):
        turned = torch.where((turns == quarter)[:, None, None, None], torch.rot90(images, quarter, (2, 3)), turned)
    return turned.contiguous(memory_format=torch.channels_last)


def rotate_all(images: Tensor, upright: bool) -> Tensor:
    """All images turned by one quarter, then all by two, then by three; `upright`: after all of them unturned.

    (batch, channels, side, side) -> (3 or 4 times batch, channels, side, side), channels_last.
    """
    views = [torch.rot90(images, quarter, (2, 3)) for quarter in range(0 if upright else 1, 4)]
    return torch.cat(views).contiguous(memory_format=torch.channels_last)
