"""Optimizers and the learning rate's course."""

import math
from typing import Any

import torch
from torch import nn

from raycnn.spec.trial import Optimizer, Schedule


def make_optimizer(model: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters of `model`; weight decay spares norms and biases (parameters of one dimension).

    The first optimizer of a process takes 1.5 s, because torch then imports its compiler.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    if spec.sgd is not None:
        sgd = spec.sgd
        nesterov = sgd.nesterov and sgd.momentum > 0
        return torch.optim.SGD(
            groups, sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay, nesterov=nesterov, fused=True
        )
    assert spec.adamw is not None  # the spec holds exactly one
    adamw = spec.adamw
    betas = (adamw.beta1, adamw.beta2)
    return torch.optim.AdamW(groups, adamw.lr, betas, weight_decay=adamw.weight_decay, fused=True)


def peak_lr(spec: Optimizer) -> float:
    """The learning rate at the end of the warm-up."""
    chosen = spec.sgd or spec.adamw
    assert chosen is not None
    return chosen.lr


def clip_norm(spec: Optimizer) -> float:
    """The longest gradient that is not shortened; 0: any length."""
    chosen = spec.sgd or spec.adamw
    assert chosen is not None
    return chosen.clip_norm


def lr_at(step: int, steps: int, peak: float, schedule: Schedule) -> float:
    """Learning rate of `step` (0-based) of `steps`: linear from peak / warm-up steps to peak, then by the schedule.

    A warm-up share above 0 is at least one step (Goyal et al. 2017, arXiv:1706.02677). Then: cosine, half a cosine to
    zero (Loshchilov & Hutter 2017, arXiv:1608.03983); onecycle, linear to zero (Smith & Topin 2018, arXiv:1708.07120);
    step, multiplied by `factor` at each milestone (He et al. 2016, arXiv:1512.03385, section 4.2); constant.
    """
    warmup = min(steps, max(1, round(schedule.warmup * steps))) if schedule.warmup > 0 else 0
    if step < warmup:
        return peak * (step + 1) / warmup
    gone = (step - warmup) / (steps - warmup)
    match schedule.name:
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * gone))
        case "onecycle":
            return peak * (1 - gone)
        case "step":
            return peak * schedule.factor ** sum(step >= round(share * steps) for share in schedule.milestones)
        case "constant":
            return peak


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Changes `optimizer`: the learning rate of all its groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
