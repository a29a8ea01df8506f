"""Adversarial images: how the error grows with the distance that an attacker may move each channel value."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.robustness.evaluate import Models, default_batch_size, on_device
from raycnn.robustness.results import Row, Scored, epsilon_name
from raycnn.training.memory import ByMemory

EPSILONS = (0.0, 0.01, 0.02, 8 / 255, 0.05, 0.1)
"""Distances as fractions of the pixel range. 8/255 is the usual one for CIFAR-10 (Madry et al. 2018,
arXiv:1706.06083)."""

PGD_STEPS = 10

Attack = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(model, images in [0, 1], labels, noise in [-1, 1] for each channel value, the same for all models)
-> where the model errs at each epsilon, booleans (epsilons, batch)."""


def score_fgsm(
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    epsilons: Sequence[float] = EPSILONS,
    batch_size: int | None = None,
) -> list[Scored]:
    """Changes `models`: moved to the device, in eval mode. Their error under FGSM, a row per epsilon.

    images: (n, height, width, 3) uint8, labels: (n,). An image moves by epsilon along the sign of the gradient of its
    own model's cross-entropy, and stays in [0, 1]; the model normalises it as any other. The gradient is that at the
    clean image, so one serves all epsilons. Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4.
    """

    def attack(model: nn.Module, batch: Tensor, wanted: Tensor, noise: Tensor) -> Tensor:
        direction = input_gradient(model, batch, wanted).sign()
        return torch.stack([_wrong(model, (batch + e * direction).clamp(0, 1), wanted) for e in epsilons])

    return _score("fgsm", models, images, labels, device, epsilons, attack, batch_size)


def score_pgd(
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    epsilons: Sequence[float] = EPSILONS,
    steps: int = PGD_STEPS,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[Scored]:
    """As `score_fgsm`, under projected gradient descent: `steps` steps of 2.5 epsilon / steps from a random start.

    An image counts as wrong if the model errs on it before the first step (unmoved) or after any. Madry et al. 2018,
    arXiv:1706.06083, section 2.1; the size of steps as in their section on MNIST and CIFAR-10.
    """

    def attack(model: nn.Module, batch: Tensor, wanted: Tensor, noise: Tensor) -> Tensor:
        clean = _wrong(model, batch, wanted)
        return torch.stack([clean | _descend(model, batch, wanted, epsilon, steps, noise) for epsilon in epsilons])

    return _score("pgd", models, images, labels, device, epsilons, attack, batch_size, seed)


def _descend(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int, start: Tensor) -> Tensor:
    """Where the model errs after any step, booleans (batch,)."""
    if epsilon == 0:
        return torch.zeros(len(images), dtype=torch.bool, device=images.device)
    low, high = (images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1)
    moved = (images + epsilon * start).clamp(0, 1)
    wrong = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for _ in range(steps):
        step = 2.5 * epsilon / steps * input_gradient(model, moved, labels).sign()
        moved = torch.minimum(torch.maximum(moved + step, low), high)
        wrong |= _wrong(model, moved, labels)
    return wrong


def _score(
    set_name: str,
    models: Models,
    images: np.ndarray,
    labels: np.ndarray,
    device: torch.device,
    epsilons: Sequence[float],
    attack: Attack,
    batch_size: int | None,
    seed: int = 0,
) -> list[Scored]:
    size = batch_size or default_batch_size(device)
    targets = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
    wrong: dict[tuple[str, int], list[Tensor]] = {key: [] for key in models}
    for model in models.values():
        model.to(device).eval()
    generator = torch.Generator().manual_seed(seed)
    sizes = {key: ByMemory() for key in models}
    with _parameters_without_gradients(models.values()):
        for begin in range(0, len(images), size):
            batch, wanted = on_device(images[begin : begin + size], device).float() / 255, targets[begin : begin + size]
            noise = (2 * torch.rand(batch.shape, generator=generator) - 1).to(device, memory_format=torch.channels_last)
            for key, model in models.items():
                wrong[key] += sizes[key].parts(
                    len(batch),
                    lambda a, b, model=model, batch=batch, wanted=wanted, noise=noise: attack(
                        model, batch[a:b], wanted[a:b], noise[a:b]
                    ),
                )
    found = []
    for key, batches in wrong.items():
        for epsilon, one in zip(epsilons, torch.cat(batches, dim=1).cpu().numpy(), strict=True):
            row = Row(*key, set_name, epsilon_name(epsilon), None, len(labels), int(one.sum()))
            found.append(Scored(row, {"wrong": one}))
    return found


@contextlib.contextmanager
def _parameters_without_gradients(models: Iterable[nn.Module]) -> Iterator[None]:
    """Else layers keep their inputs for them, which is most of an attack's memory."""
    changed = [one for model in models for one in model.parameters() if one.requires_grad]
    for one in changed:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in changed:
            one.requires_grad_(True)


def _wrong(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images).argmax(dim=1) != labels


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of the cross-entropy with respect to the images; no gradient of the parameters is kept."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        loss = F.cross_entropy(model(leaf), labels, reduction="sum")
        return torch.autograd.grad(loss, leaf)[0]
