"""Optimisation steps: one after the other, or, on a GPU, as one CUDA graph that is replayed.

A step of a small network is a few hundred kernels of microseconds each, which Python cannot launch as fast as a GPU
runs them. Captured once, a whole step (choice of the batch, augmentation, both passes, optimizer, average) costs the
host one call. All that changes from step to step lies on the device: the step's number, the epoch's random choices, the
learning rates. A new training, with other hyperparameters, is captured anew; that compiles nothing.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from raycnn.models.classifier import Classifier
from raycnn.spec.trial import TrialSpec
from raycnn.training.batches import Batch, Choices, Images, batch_at
from raycnn.training.loss import training_loss
from raycnn.training.optim import FilterMuon, set_lr
from raycnn.training.precision import autocast

EAGER_STEPS = 3  # before the capture: libraries choose their kernels and allocate, and all state exists
LOOK_STEPS = 8  # between two looks at whether a training has diverged
_NOT_CAPTURED: set[str] = set()
"""Networks that a capture has failed for in this process: it is not tried again for each trial."""
STEPS_AHEAD = 32  # how far the host may be ahead of the device: a heartbeat tells of steps that are nearly done


@dataclass(frozen=True, slots=True)
class Training:
    """What a step reads and changes. averaged: the moving average of `classifier`, or None; model: the classifier's
    StepLogits, compiled and parallel if it is; share_weight: factor of this rank's loss."""

    spec: TrialSpec
    images: Images
    classifier: Classifier
    averaged: Classifier | None
    model: nn.Module
    optimizer: torch.optim.Optimizer | FilterMuon
    precision: str
    share_weight: float


class EagerSteps:
    """Step after step, on any device and number of ranks."""

    def __init__(self, training: Training, ranks: int = 1):
        self.training = training
        # Looking at the loss costs nothing on a processor. On a GPU the host would wait, and ranks must stop as one.
        self.looks = ranks == 1 and training.images.device.type == "cpu"

    def epoch(self, choices: Choices, lrs: Sequence[float], first: bool, on_step: Callable[[], None]) -> Tensor:
        """A step for each learning rate; first: it is the training's first epoch. The sum of the losses, ().

        Ends early with a sum that is not finite, where that is seen within the epoch.
        """
        total = torch.zeros((), device=self.training.images.device)
        for step, lr in enumerate(lrs):
            on_step()
            set_lr(self.training.optimizer, lr)
            total += _optimise(self.training, choices, step, first and step == 0)
            if self.looks and step % LOOK_STEPS == 0 and not math.isfinite(total.item()):
                break
        return total


class GraphSteps:
    """Steps on one GPU: the first few eagerly, then the captured one again and again. Same interface as EagerSteps.

    A network that waits for the device within a step (`.item()`, a mask as index) cannot be captured: then all steps
    are eager, and `note` is told once.
    """

    def __init__(self, training: Training, note: Callable[[str], None] = lambda _: None):
        self.training, self.note = training, note
        self.capturable = training.spec.model not in _NOT_CAPTURED
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0
        device = training.images.device
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.total = torch.zeros((), device=device)
        self.choices: Choices | None = None
        self.lrs = torch.zeros(0)
        for group in training.optimizer.param_groups:
            group["lr"] = torch.zeros((), device=device)
            if "capturable" in group:
                group["capturable"] = True

    def epoch(self, choices: Choices, lrs: Sequence[float], first: bool, on_step: Callable[[], None]) -> Tensor:
        """As EagerSteps.epoch."""
        self._load(choices, torch.tensor(lrs))
        before, last = torch.cuda.Event(), torch.cuda.Event()
        for step in range(len(lrs)):
            on_step()
            if self.capturable and self.graph is None and self.eager_steps >= EAGER_STEPS:
                self.graph = self._captured_or_none()
            if self.graph is None:
                self._eagerly(first and step == 0)
            else:
                self.graph.replay()
            if step % STEPS_AHEAD == 0:
                before.synchronize()
                before, last = last, before
                last.record()
        return self.total

    def _load(self, choices: Choices, lrs: Tensor) -> None:
        """The graph reads from the same memory in every epoch."""
        device = self.step.device
        if self.choices is None:
            self.choices, self.lrs = choices.each(lambda _, values: values.clone()), lrs.to(device)
        else:
            old = self.choices
            choices.each(lambda name, values: getattr(old, name).copy_(values))
            self.lrs.copy_(lrs)
        self.step.zero_()
        self.total.zero_()

    def _eagerly(self, first: bool) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self._one(first)
        torch.cuda.current_stream().wait_stream(self.stream)
        self.eager_steps += 1

    def _captured_or_none(self) -> torch.cuda.CUDAGraph | None:
        """None, and the network is known for it in this process, where it cannot be captured. Nothing has been computed
        then, and the stream and the device's generator are as they were."""
        device, stream = self.step.device, torch.cuda.current_stream()
        drawn = torch.cuda.get_rng_state(device)
        try:
            return self._captured()
        except Exception as error:  # CUDA's refusal, or what a network of the user's made of it
            torch.cuda.set_stream(stream)  # torch.cuda.graph leaves its own behind where its end raises (2.11)
            _fresh_generator(device, drawn)
            self.training.optimizer.zero_grad(set_to_none=True)
            self.capturable = False
            _NOT_CAPTURED.add(self.training.spec.model)
            words = " ".join(str(error).split())[:200]
            self.note(
                f"{self.training.spec.model} cannot be captured as a CUDA graph ({type(error).__name__}: {words}): its "
                "steps are made one by one, which is slower. Keep .item() and masks as indices out of its forward."
            )
            return None

    def _captured(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self.training.optimizer.zero_grad(set_to_none=True)  # the gradients then lie in the graph's own memory
        # thread_local: NCCL's watchdog thread asks for its events meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._one(first=False)
        return graph

    def _one(self, first: bool) -> None:
        assert self.choices is not None
        lr = self.lrs.index_select(0, self.step)[0]
        for group in self.training.optimizer.param_groups:
            group["lr"].copy_(lr)
        self.total += _optimise(self.training, self.choices, self.step, first)
        self.step += 1


def _fresh_generator(device: torch.device, state: Tensor) -> None:
    """The device's generator anew, in this state: one whose capture failed may believe to be captured still."""
    generator = torch.Generator(device)
    generator.set_state(state)
    torch.cuda.default_generators[device.index or 0].graphsafe_set_state(generator)


def steps_of(training: Training, ranks: int, note: Callable[[str], None] = lambda _: None) -> EagerSteps | GraphSteps:
    """How `training` makes its steps; `note` is told where they are slower than they might be.

    Not captured are those of several ranks, of Muon (its learning rates are numbers of the host), and of images that
    are streamed.
    """
    resident_on_gpu = training.images.device.type == "cuda" and training.images.rows is None
    captured = resident_on_gpu and ranks == 1 and not isinstance(training.optimizer, FilterMuon)
    return GraphSteps(training, note) if captured else EagerSteps(training, ranks)


def _optimise(training: Training, choices: Choices, step: Tensor | int, first: bool) -> Tensor:
    """Changes the classifier, its average and the optimizer: one step, perhaps the training's first. The loss, ()."""
    spec = training.spec
    batch = batch_at(training.images, choices, step, spec.regularizers, training.classifier.normalise)
    loss = _gradients(training, batch)
    parameters = [p for p in training.classifier.parameters() if p.grad is not None]
    if spec.regularizers.sam_rho:
        way = _way_up(parameters, spec.regularizers.sam_rho)
        _move(parameters, way, 1)
        _gradients(training, batch)
        _move(parameters, way, -1)
    if longest := spec.optimizer.chosen.clip_norm:
        nn.utils.clip_grad_norm_(parameters, longest)
    training.optimizer.step()
    if training.averaged is not None:
        _average(training.averaged, training.classifier, 0.0 if first else spec.regularizers.ema_decay)
    return loss


def _gradients(training: Training, batch: Batch) -> Tensor:
    """Changes the gradients: to those of the mean loss over the global batch. This rank's share of the loss, ()."""
    training.optimizer.zero_grad(set_to_none=True)
    with autocast(training.precision, training.images.device):
        loss = training.share_weight * training_loss(training.model, batch, training.spec.regularizers)
    loss.backward()
    return loss.detach()


def _way_up(parameters: Sequence[nn.Parameter], rho: float) -> list[Tensor]:
    """A step of length rho, over all parameters, along the gradient.

    Sharpness-aware minimisation, Foret et al. 2021, arXiv:2010.01412, equation 2 with p = 2.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    scale = rho / (nn.utils.get_total_norm(gradients) + 1e-12)
    return [gradient * scale for gradient in gradients]


@torch.no_grad()
def _move(parameters: Sequence[nn.Parameter], way: Sequence[Tensor], sign: float) -> None:
    """Changes `parameters`: by sign times `way`."""
    for parameter, part in zip(parameters, way, strict=True):
        parameter.add_(part, alpha=sign)


@torch.no_grad()
def _average(averaged: Classifier, classifier: Classifier, decay: float) -> None:
    """Changes `averaged`: decay * averaged + (1 - decay) * classifier, of weights and batch norm's statistics.

    Tarvainen & Valpola 2017, arXiv:1703.01780, section 2.
    """
    pairs = [
        (mean, value)
        for mean, value in zip(
            itertools.chain(averaged.parameters(), averaged.buffers()),
            itertools.chain(classifier.parameters(), classifier.buffers()),
            strict=True,
        )
        if mean.is_floating_point()
    ]
    get_ema_multi_avg_fn(decay)([mean for mean, _ in pairs], [value for _, value in pairs], 0)
