"""Cutout: squares of each image are blanked, so that no single part of an object suffices to recognise it."""

import torch
from torch import Tensor


def draw_centres(count: int, holes: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Centres of `holes` squares for `count` images, anywhere in the image: (count, holes, 2) int64, row and column."""
    rows = torch.randint(0, height, (count, holes), generator=generator)
    columns = torch.randint(0, width, (count, holes), generator=generator)
    return torch.stack((rows, columns), dim=-1)


def cutout(images: Tensor, centres: Tensor, size_px: int) -> Tensor:
    """Blank squares of `size_px` around `centres` (batch, holes, 2), each image at its own places.

    images: (batch, channels, height, width), normalised, so the zero that is written is the data set's mean colour.
    A square may hang over the border, as in the paper; squares may overlap. One of even size reaches size_px / 2
    pixels to the left of its centre and size_px / 2 - 1 to the right. One of odd size is centred, and as wide as
    it says; the authors' code rounds its side down to an even number, 2 * floor(size_px / 2).

    Returns a new tensor of the same shape. Raises ValueError for a negative size. DeVries & Taylor 2017,
    arXiv:1708.04552, section 3.2.
    """
    if size_px < 0:
        raise ValueError(f"cutout: size_px must not be negative, got {size_px}.")
    rows = _covered(centres[..., 0], images.shape[2], size_px)
    columns = _covered(centres[..., 1], images.shape[3], size_px)
    covers = rows.transpose(1, 2) @ columns  # (batch, height, width): how many squares cover the pixel
    return images * (covers == 0).to(images.dtype)[:, None]


def _covered(centres: Tensor, length: int, size_px: int) -> Tensor:
    """1 where a place lies in a square's span, else 0. (batch, holes) -> (batch, holes, length) float."""
    first = centres - size_px // 2
    places = torch.arange(length, device=centres.device)
    return ((places >= first[..., None]) & (places < first[..., None] + size_px)).float()
