"""Nine operations on batches of byte images, of which TrivialAugment and AugMix are made.

They are those of AugMix (Hendrycks et al. 2020, arXiv:1912.02781, section 3): whatever resembles a corruption of the
benchmark (brightness, contrast, colour, sharpness) is left out, so that robustness to it is not trained for.

An operation of an image is a number, its place in OPERATIONS (0: nothing), with an amount in its own unit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

OPERATIONS = ("identity", "autocontrast", "equalize", "posterize", "solarize", "rotate", "shear_x", "shear_y")
OPERATIONS += ("translate_x", "translate_y")
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
GEOMETRIC = range(NUMBER["rotate"], len(OPERATIONS))


def operate(images: Tensor, operations: Tensor, amounts: Tensor) -> Tensor:
    """Each image after its own operation, a new tensor, channels_last.

    images: (n, 3, height, width) uint8. operations: (n,) int64. amounts: (n,) float: bits that are kept (posterize),
    the lowest value that is inverted (solarize), degrees counterclockwise (rotate), pixels across for each pixel down
    or down for each across (shear), pixels to the left or up (translate); the others have none.
    The result is that of Pillow's functions of these names, bilinear where pixels move, black where they come from
    outside.
    """
    result = images.clone(memory_format=torch.channels_last)
    for first, last, change in (
        ("autocontrast", "autocontrast", _autocontrast),
        ("equalize", "equalize", _equalized),
        ("posterize", "posterize", _posterized),
        ("solarize", "solarize", _solarized),
        ("rotate", "translate_y", _moved),
    ):
        chosen = (operations >= NUMBER[first]) & (operations <= NUMBER[last])
        if images.device.type == "cpu":
            places = chosen.nonzero()[:, 0]
            result[places] = change(images[places], operations[places], amounts[places])
        else:  # shapes must not depend on the choices, or the host would wait for the device
            result = torch.where(chosen.view(-1, 1, 1, 1), change(images, operations, amounts), result)
    return result


def _posterized(images: Tensor, _: Tensor, bits: Tensor) -> Tensor:
    mask = 256 - 2 ** (8 - bits.round().int().clamp(0, 8))
    return images & mask.to(torch.uint8).view(-1, 1, 1, 1)


def _solarized(images: Tensor, _: Tensor, lowest: Tensor) -> Tensor:
    return torch.where(images < lowest.round().int().view(-1, 1, 1, 1), images, 255 - images)


def _autocontrast(images: Tensor, *_: Tensor) -> Tensor:
    """Each channel stretched to 0..255, if it has more than one value."""
    low, high = images.amin((2, 3), keepdim=True).int(), images.amax((2, 3), keepdim=True).int()
    stretched = (images.int() - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched.to(torch.uint8), images)


def _equalized(images: Tensor, *_: Tensor) -> Tensor:
    """Each channel's values spread so that their histogram is flat."""
    n, channels, height, width = images.shape
    values = images.reshape(n * channels, height * width).long()
    counts = torch.zeros(n * channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    of_highest = counts.gather(1, values.amax(1, keepdim=True))
    step = (height * width - of_highest) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    spread = table.gather(1, values).to(torch.uint8).view(n, channels, height, width)
    return torch.where(step.view(n, channels, 1, 1) > 0, spread, images)


def _moved(images: Tensor, operations: Tensor, amounts: Tensor) -> Tensor:
    """The geometric operations."""
    height, width = images.shape[2:]
    x, y = _sources(operations, amounts, height, width)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    grid = torch.stack((2 * x / width - 1, 2 * y / height - 1), dim=-1)
    moved = F.grid_sample(images.float().contiguous(), grid, padding_mode="border", align_corners=False)
    return torch.where(inside[:, None], moved, 0).round().to(torch.uint8)


def _sources(operations: Tensor, amounts: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """From where (x, y) each pixel comes, in pixels from the image's upper left corner: (n, height, width) each."""
    rows = torch.arange(height, device=amounts.device) + 0.5
    columns = torch.arange(width, device=amounts.device) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing="ij")

    def of(name: str) -> Tensor:
        """The amount where the operation is this one, else 0. (n, 1, 1)."""
        return torch.where(operations == NUMBER[name], amounts, 0).view(-1, 1, 1)

    angle = torch.deg2rad(of("rotate"))
    middle_x, middle_y = width / 2, height / 2
    across = x - middle_x
    down = y - middle_y
    source_x = angle.cos() * across - angle.sin() * down + middle_x
    source_y = angle.sin() * across + angle.cos() * down + middle_y
    source_x = source_x + of("shear_x") * y + of("translate_x")
    source_y = source_y + of("shear_y") * x + of("translate_y")
    return source_x, source_y
