"""Rotation prediction: a second head tells by how many quarter turns an image was rotated."""

import torch
from torch import Tensor


def draw_turns(count: int, views: int, generator: torch.Generator) -> Tensor:
    """For each of `count` images, `views` different numbers of quarter turns, 0 to 3. (count, views) int64.

    views = 4: all of them, in order; fewer: a random choice for each image.
    """
    if views == 4:
        return torch.arange(4).repeat(count, 1)
    return torch.rand(count, 4, generator=generator).argsort(dim=1)[:, :views]


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Turn copies of `images` counterclockwise: in view v, image i by turns[v, i] quarters, 0 to 3.

    images: (batch, channels, side, side), best channels_last; turns: (views, batch) int64.
    Returns (views * batch, channels, side, side), channels_last, view by view.
    Gidaris et al. 2018, arXiv:1803.07728; Hendrycks et al. 2019, arXiv:1906.12340.
    """
    batch, channels, side, _ = images.shape
    pixels = side * side
    upright = torch.arange(pixels, device=images.device).view(side, side)
    origins = torch.stack([torch.rot90(upright, quarter) for quarter in range(4)]).view(4, pixels)  # of each pixel
    first = torch.arange(0, batch * pixels, pixels, device=images.device)
    chosen = (origins[turns] + first[:, None]).flatten()
    # One gather of pixels: 4 times faster on a processor than turning all images in four ways and choosing.
    turned = images.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, chosen)
    return turned.view(-1, side, side, channels).permute(0, 3, 1, 2)
