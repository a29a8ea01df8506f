"""CutMix: a rectangle of each image is replaced by its partner's, and the labels are mixed by the areas."""

import torch
from torch import Tensor

from raycnn.regularizers.mixup import draw_lambdas


def draw_boxes(count: int, alpha: float, height: int, width: int, generator: torch.Generator) -> Tensor:
    """`count` rectangles (top, bottom, left, right), the latter of each pair exclusive: (count, 4) int64.

    A share 1 - lambda of the image before it is clipped at the border, lambda from Beta(alpha, alpha); of the image's
    proportions; its centre anywhere in the image. Yun et al. 2019, arXiv:1905.04899, section 3.1 and algorithm A1.
    """
    side = (1 - draw_lambdas(count, alpha, generator)).sqrt()
    edges: list[Tensor] = []
    for length in (height, width):
        centres = torch.randint(0, length, (count,), generator=generator)
        half = (side * length).long() // 2
        edges += [(centres - half).clamp(min=0), (centres + half).clamp(max=length)]
    return torch.stack(edges, dim=1)


def cutmix(images: Tensor, partners: Tensor, box: Tensor) -> Tensor:
    """`images` with the rectangle `box` (4,) from `draw_boxes` taken from `partners`, a new tensor.

    images, partners: (batch, channels, height, width), partner i belonging to image i.
    """
    return torch.where(_inside(box, images.shape[2], images.shape[3]), partners, images)


def remaining(boxes: Tensor, height: int, width: int) -> Tensor:
    """The share of an image that is its own after `cutmix`, the weight of its label: (..., 4) -> (...), float32."""
    top, bottom, left, right = boxes.unbind(-1)
    return 1 - ((bottom - top) * (right - left)).float() / (height * width)


def _inside(box: Tensor, height: int, width: int) -> Tensor:
    """(height, width) bool."""
    top, bottom, left, right = box.unbind()
    rows, columns = torch.arange(height, device=box.device), torch.arange(width, device=box.device)
    return ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
