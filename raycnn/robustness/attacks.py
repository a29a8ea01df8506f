"""Adversarial images: how the error grows with the step that an attacker may make."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.robustness.evaluate import Models, Row, default_batch_size, on_device

EPSILONS = (0.0, 0.01, 0.02, 8 / 255, 0.05, 0.1)
"""Steps as fractions of the pixel range. 8/255 is the usual one for CIFAR-10 (Madry et al. 2018, arXiv:1706.06083)."""


def score_fgsm(
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    epsilons: Sequence[float] = EPSILONS,
    batch_size: int | None = None,
) -> list[Row]:
    """Changes `models`: moved to the device, channels last, in eval mode. Their error under FGSM, a row per epsilon.

    images: (n, height, width, 3) uint8, labels: (n,). An image moves by epsilon along the sign of the gradient of its
    own model's cross-entropy, and stays in [0, 1]; the model normalises it as any other. The gradient is that at the
    clean image, so one serves all epsilons. Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4.
    """
    size = batch_size or default_batch_size(device)
    targets = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
    errors = {key: torch.zeros(len(epsilons), dtype=torch.int64, device=device) for key in models}
    for model in models.values():
        model.to(device=device, memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue] not in the stub
    for start in range(0, len(images), size):
        batch = on_device(images[start : start + size], device).float() / 255
        wanted = targets[start : start + size]
        for key, model in models.items():
            direction = _gradient(model, batch, wanted).sign()
            with torch.inference_mode():
                for place, epsilon in enumerate(epsilons):
                    attacked = (batch + epsilon * direction).clamp(0, 1)
                    errors[key][place] += (model(attacked).argmax(dim=1) != wanted).sum()
    n = len(labels)
    return [
        Row(model, seed, "fgsm", f"eps={epsilon:.4f}", None, "error", n, wrong, wrong / n)
        for (model, seed), counts in errors.items()
        for epsilon, wrong in zip(epsilons, counts.tolist(), strict=True)
    ]


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of the cross-entropy with respect to the images; no gradient of the parameters is kept."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        loss = F.cross_entropy(model(leaf), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]
