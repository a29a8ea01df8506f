"""AugMix: chains of operations, mixed with each other and with the image, and a loss that binds the views together."""

import torch
import torch.nn.functional as F
from torch import Tensor

from raycnn.regularizers.operations import NUMBER, OPERATIONS, operate

WIDTH, DEPTH = 3, 3  # chains of an image, and at most so many operations in each; as in the paper


def draw(
    count: int, views: int, severity: float, image_px: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(operations, amounts, weights) of `views` views of `count` images: (count, views, WIDTH, DEPTH) int64 and
    float32, and (count, views, WIDTH + 1) float32, the share of the image itself last; they sum to one.

    Every chain has 1 to DEPTH operations, the rest are identities. Strengths are uniform from 0.1 to `severity`, of 10.
    Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1; ranges as in the authors' code, severity 3 is theirs.
    """
    shape = (count, views, WIDTH, DEPTH)
    operations = torch.randint(1, len(OPERATIONS), shape, generator=generator)
    depth = torch.randint(1, DEPTH + 1, (*shape[:3], 1), generator=generator)
    operations = torch.where(torch.arange(DEPTH) < depth, operations, 0)
    level = (0.1 + (severity - 0.1) * torch.rand(shape, generator=generator)) / 10
    sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    amounts = torch.zeros(shape)
    for names, widest, whole in (
        (("rotate",), 30.0, True),
        (("shear_x", "shear_y"), 0.3, False),
        (("translate_x", "translate_y"), image_px / 3, True),
    ):
        amount = (level * widest).floor() if whole else level * widest
        for name in names:
            amounts = torch.where(operations == NUMBER[name], sign * amount, amounts)
    amounts = torch.where(operations == NUMBER["posterize"], 4 - (4 * level).floor(), amounts)
    amounts = torch.where(operations == NUMBER["solarize"], 256 - (256 * level).floor(), amounts)
    # Dirichlet(1, 1, 1) from exponential variates; Beta(1, 1) is uniform.
    parts = -torch.rand(shape[:3], generator=generator).clamp(min=1e-20).log()
    mixed = torch.rand((count, views, 1), generator=generator)
    weights = torch.cat((mixed * parts / parts.sum(-1, keepdim=True), 1 - mixed), dim=-1)
    return operations, amounts, weights


def augmix(images: Tensor, operations: Tensor, amounts: Tensor, weights: Tensor) -> Tensor:
    """The views: (views * n, 3, height, width) float32 in the units of the bytes, view by view, channels_last.

    images: (n, 3, height, width) uint8; the others for n images, from `draw`.
    """
    views = operations.shape[1]

    def chainwise(choices: Tensor) -> Tensor:
        """(n, views, WIDTH, …) -> (views * WIDTH * n, …)."""
        return choices.permute(1, 2, 0, *range(3, choices.ndim)).flatten(0, 2)

    chains = images.repeat(views * WIDTH, 1, 1, 1)
    steps, amount = chainwise(operations), chainwise(amounts)
    for place in range(DEPTH):
        chains = operate(chains, steps[:, place], amount[:, place])
    chains = chains.view(views, WIDTH, *images.shape)
    share = weights.permute(1, 2, 0)[..., None, None, None]  # (views, WIDTH + 1, n, 1, 1, 1)
    mixed = (share[:, :WIDTH] * chains).sum(1) + share[:, WIDTH] * images
    return mixed.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def divergence(logits: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence, (), in nats, of the predictions for the views of each image.

    logits: (views, n, classes). Hendrycks et al. 2020, section 3, equation 1; the mean of the predictions is kept from
    0 as in the authors' code.
    """
    predictions = F.softmax(logits, dim=-1)
    mean = predictions.mean(0).clamp(1e-7, 1).log()
    return torch.stack([F.kl_div(mean, view, reduction="batchmean") for view in predictions]).mean()
