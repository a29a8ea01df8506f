"""Optimizers and the learning rate's course."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raycnn.spec.trial import Muon, Optimizer, Schedule


def make_optimizer(model: nn.Module, spec: Optimizer) -> "torch.optim.Optimizer | FilterMuon":
    """The optimizer of all parameters of `model`; weight decay spares norms and biases (parameters of one dimension).

    The first optimizer of a process takes 1.5 s, because torch then imports its compiler.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.muon is not None:
        return FilterMuon(parameters, spec.muon)
    groups = _groups(parameters)
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


class FilterMuon:
    """torch's Muon, which takes matrices only, on the filters of convolutions, and AdamW on all else; used like one
    optimizer. A filter's matrix (out, height * width * in) is the same memory, so the filters must be channels_last.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], spec: Muon):
        self._filters = [p for p in parameters if p.ndim == 4]
        self._matrices = [nn.Parameter(_matrix(p.detach())) for p in self._filters]
        self._muon = torch.optim.Muon(
            self._matrices, spec.lr, weight_decay=spec.weight_decay, momentum=spec.momentum, nesterov=spec.nesterov
        )
        others = _groups([p for p in parameters if p.ndim != 4])
        self._adamw = torch.optim.AdamW(others, spec.adamw_lr, weight_decay=spec.weight_decay, fused=True)
        for group in self._adamw.param_groups:
            group["lr_factor"] = spec.adamw_lr / spec.lr

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Muon's, then AdamW's, whose learning rate is `lr_factor` times the other."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of an Optimizer."""
        for parameter in self._filters:
            parameter.grad = None
        self._adamw.zero_grad(set_to_none)

    def step(self) -> None:
        """As of an Optimizer."""
        for parameter, matrix in zip(self._filters, self._matrices, strict=True):
            matrix.grad = None if parameter.grad is None else _matrix(parameter.grad)
        self._muon.step()
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """State and groups of both, by name."""
        both = {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}
        return {key: {name: one[key] for name, one in both.items()} for key in ("state", "param_groups")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        for name, one in (("muon", self._muon), ("adamw", self._adamw)):
            one.load_state_dict({key: state[key][name] for key in ("state", "param_groups")})


def _groups(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


def _matrix(filters: Tensor) -> Tensor:
    """(out, in, height, width) -> (out, rest); the same memory if it is channels_last."""
    return filters.permute(0, 2, 3, 1).flatten(1)


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


def set_lr(optimizer: "torch.optim.Optimizer | FilterMuon", lr: float) -> None:
    """Changes `optimizer`: the learning rate of all its groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
