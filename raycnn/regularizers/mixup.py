"""Mixup: the network is trained on convex combinations of pairs of images and of their labels."""

import torch
from torch import Tensor


def draw_lambdas(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """`count` mixing weights from Beta(alpha, alpha), one one a batch as in the authors' code. (count,) float32."""
    # torch.distributions.Beta takes no generator; this is the function that it draws with. In double precision, because
    # at small alpha the two gamma variates underflow single precision.
    alphas = torch.full((count, 2), alpha, dtype=torch.float64)
    pairs = torch._sample_dirichlet(alphas, generator)  # pyright: ignore[reportPrivateImportUsage]
    return pairs[:, 0].float()


def mixup(images: Tensor, partners: Tensor, lam: Tensor) -> Tensor:
    """lam * images + (1 - lam) * partners, a new tensor.

    images, partners: (batch, channels, height, width) float, partner i belonging to image i; lam: () in [0, 1].
    The loss mixes the labels with the same lam. Zhang et al. 2018, arXiv:1710.09412, equation 1.
    """
    return torch.lerp(partners, images, lam.to(images.dtype))
