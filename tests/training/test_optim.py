import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raycnn import models
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import Adamw, Muon, Optimizer, Schedule, Sgd
from raycnn.training.optim import lr_at, make_optimizer, set_lr


def test_weight_decay_spares_norms_and_biases():
    model = Classifier(models.build("resnet18", 32), 10, (0.5,) * 3, (0.2,) * 3, rotation=True)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for spec in (Optimizer(sgd=Sgd(lr=0.1)), Optimizer(adamw=Adamw(lr=0.1))):
        decayed, spared = make_optimizer(model, spec).param_groups
        assert decayed["weight_decay"] > 0
        assert spared["weight_decay"] == 0
        assert all(p.ndim > 1 for p in decayed["params"])
        assert all("norm" in names[p] or "shortcut.1" in names[p] or "bias" in names[p] for p in spared["params"])
        assert len(decayed["params"]) + len(spared["params"]) == len(names)


def one_weight(value: float) -> torch.nn.Module:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, value)
    return model


def weight_after(optimizer: Optimizer, gradients: list[float], lrs: list[float]) -> float:
    model = one_weight(1.0)
    stepper = make_optimizer(model, optimizer)
    (weight,) = model.parameters()
    for gradient, lr in zip(gradients, lrs, strict=True):
        set_lr(stepper, lr)
        weight.grad = torch.full((1, 1), gradient)
        stepper.step()
    return weight.item()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_follows_the_formula_step_by_step(momentum: float, nesterov: bool):
    spec = Optimizer(sgd=Sgd(lr=9.0, momentum=momentum, weight_decay=0.1, nesterov=nesterov))
    gradients, lrs = [0.5, -0.2, 0.3], [0.1, 0.2, 0.05]
    weight, velocity = 1.0, 0.0
    for g, lr in zip(gradients, lrs, strict=True):
        g += 0.1 * weight
        velocity = momentum * velocity + g
        weight -= lr * (g + momentum * velocity if nesterov else velocity)
    assert weight_after(spec, gradients, lrs) == pytest.approx(weight, rel=1e-5)


def test_adamw_follows_the_formula_step_by_step():
    spec = Optimizer(adamw=Adamw(lr=9.0, beta1=0.8, beta2=0.95, weight_decay=0.1))
    gradients, lrs = [0.5, -0.2, 0.3], [0.1, 0.2, 0.05]
    weight, first, second = 1.0, 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), start=1):
        weight -= lr * 0.1 * weight
        first, second = 0.8 * first + 0.2 * g, 0.95 * second + 0.05 * g * g
        weight -= lr * (first / (1 - 0.8**t)) / (math.sqrt(second / (1 - 0.95**t)) + 1e-8)
    assert weight_after(spec, gradients, lrs) == pytest.approx(weight, rel=1e-5)


def test_the_schedule_of_a_hand_worked_training():
    lrs = [lr_at(step, 6, 1.0, Schedule(warmup=1 / 3)) for step in range(6)]
    expected = [0.5, 1.0, 1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
    assert lrs == pytest.approx(expected)


def test_onecycle_rises_and_falls_in_straight_lines():
    lrs = [lr_at(step, 6, 1.0, Schedule(name="onecycle", warmup=1 / 3)) for step in range(6)]
    assert lrs == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_step_divides_at_the_milestones_of_the_paper():
    # He et al. 2016: 0.1, divided by 10 at 32k and 48k of 64k iterations.
    schedule = Schedule(name="step", warmup=0.0)
    lrs = [lr_at(step, 64_000, 0.1, schedule) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert lrs == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_constant_stays_at_the_peak_after_the_warm_up():
    lrs = [lr_at(step, 10, 0.3, Schedule(name="constant", warmup=0.2)) for step in range(10)]
    assert lrs == pytest.approx([0.15] + [0.3] * 9)


@given(st.integers(1, 300), st.floats(0, 1), st.floats(1e-6, 100))
def test_the_learning_rate_rises_to_the_peak_then_falls(steps: int, warmup: float, peak: float):
    lrs = [lr_at(step, steps, peak, Schedule(warmup=warmup)) for step in range(steps)]
    top = lrs.index(max(lrs))
    assert lrs[: top + 1] == sorted(lrs[: top + 1])
    assert lrs[top:] == sorted(lrs[top:], reverse=True)
    assert max(lrs) == pytest.approx(peak)
    assert min(lrs) > 0


def test_a_small_warm_up_is_one_step_at_least_and_none_is_none():
    assert lr_at(0, 10, 1.0, Schedule(warmup=0.001)) == lr_at(1, 10, 1.0, Schedule(warmup=0.001)) == 1.0
    assert lr_at(1, 10, 1.0, Schedule(warmup=0.0)) < 1.0


def test_muon_on_filters_is_torchs_muon_on_their_matrices_and_all_else_is_adamw():
    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 4, 2))
        return layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] not in the stub

    model, copy = fresh(), fresh()
    spec = Muon(lr=0.02, momentum=0.9, weight_decay=0.1, adamw_lr=0.004)
    ours = make_optimizer(model, Optimizer(muon=spec))
    filters = [p for p in copy.parameters() if p.ndim == 4]
    matrices = [torch.nn.Parameter(p.detach().flatten(1)) for p in filters]
    muon = torch.optim.Muon(matrices, weight_decay=0.1, momentum=0.9, nesterov=True)
    adamw = torch.optim.AdamW([p for p in copy.parameters() if p.ndim == 1], weight_decay=0.0)
    for step, lr in enumerate((0.02, 0.01, 0.005)):
        set_lr(ours, lr)
        muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"] = lr, lr / 5
        noise = torch.Generator().manual_seed(step)
        for a, b in zip(model.parameters(), copy.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=noise)
            b.grad = a.grad.clone()
        for matrix, parameter in zip(matrices, filters, strict=True):
            assert parameter.grad is not None
            matrix.grad = parameter.grad.flatten(1)
        ours.step()
        muon.step()
        adamw.step()
        if step == 0:  # a state that goes to disk and comes back is the same
            again = make_optimizer(model, Optimizer(muon=spec))
            again.load_state_dict(ours.state_dict())
            ours = again
    for a, matrix in zip((p for p in model.parameters() if p.ndim == 4), matrices, strict=True):
        # torch iterates in bf16, and the columns are in another order.
        assert torch.allclose(a.flatten(1), matrix, atol=2e-3)
        assert (a.flatten(1) - matrix).norm() < 0.02 * matrix.norm()
    for a, b in zip(model.parameters(), copy.parameters(), strict=True):
        if a.ndim == 1:
            assert torch.allclose(a, b, atol=1e-6)
