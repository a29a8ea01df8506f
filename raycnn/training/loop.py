"""`train`: one training from start to end, or on from its checkpoint."""

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from raycnn import models
from raycnn.errors import RaycnnError, SpecError
from raycnn.models.classifier import BeginsWithData, Classifier
from raycnn.spec.trial import TrialSpec
from raycnn.training import checkpoint as checkpoints
from raycnn.training.batches import Group, Images, epoch_choices, noise_seed, share_of
from raycnn.training.checkpoint import Checkpoint
from raycnn.training.compiling import compiled
from raycnn.training.evaluate import average_buffers, evaluate
from raycnn.training.log import EpochRecord
from raycnn.training.loss import StepLogits
from raycnn.training.optim import lr_at, make_optimizer
from raycnn.training.precision import resolve_precision
from raycnn.training.steps import EagerSteps, GraphSteps, Training, steps_of

ALONE = Group()
BEGIN_IMAGES = 5000  # for weights that depend on data
__all__ = ["EpochRecord", "Group", "Images", "TrainingData", "TrainingDiverged", "train"]


class TrainingDiverged(RaycnnError):
    """The training loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a training is given, all on its device. mean, std: per channel, fractions of 1.

    corrupted: the held-out images once per corruption and severity, one after the other; None: not evaluated.
    """

    train: Images
    validation: Images
    corrupted: Images | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int


def train(
    spec: TrialSpec,
    data: TrainingData,
    device: torch.device,
    *,
    group: Group = ALONE,
    directory: Path | None = None,
    checkpoint_s: float = 10.0,
    corruption_epochs: frozenset[int] = frozenset(),
    on_epoch: Callable[[EpochRecord], None] = lambda _: None,
    on_step: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = lambda _: None,
) -> Classifier:
    """Train `spec` on `data`; the same spec, data and group size give the same classifier, bit for bit on a processor.

    After each epoch: evaluate (`corrupted` at `corruption_epochs` and the last epoch), write a checkpoint into
    `directory` (rank 0; if `checkpoint_s` have passed since the last, and after the last epoch; None: never), then call
    `on_epoch(record)` on every rank, which may raise to stop the training on all of them. `on_step` is called before
    each step, a heartbeat. If `directory` has a checkpoint, the training goes on from it and tells its last record
    again.
    Raises SpecError for what cannot be trained, TrainingDiverged for a loss that is not finite, CheckpointError.
    """
    run = _prepare(spec, data, device, group)
    history = _restore(run, directory, device, note)
    epochs = steps_of(run.training, group.size, note)
    if history:
        on_epoch(history[-1])
    saved_at = time.monotonic()
    for epoch in range(len(history) + 1, spec.epochs + 1):
        started = time.monotonic()
        train_loss, lr = _train_epoch(run, epochs, epoch, on_step)
        trained = time.monotonic()
        metrics = _evaluate(run, epoch, corrupted=epoch in corruption_epochs or epoch == spec.epochs)
        evaluated = time.monotonic()
        images = epoch * run.steps * spec.batch_size
        history.append(EpochRecord(epoch, images, lr, train_loss, metrics, trained - started, evaluated - trained))
        due = epoch == spec.epochs or evaluated - saved_at >= checkpoint_s
        if directory is not None and group.rank == 0 and due:
            checkpoints.save(_checkpoint(run, history), directory)
            saved_at = time.monotonic()
        on_epoch(history[-1])
    return run.evaluated.eval()


def refuse_batch(batch_size: int, images: int, workers: int) -> None:
    """Raises SpecError for a batch that cannot be made of so many images, or shared by so many workers."""
    if batch_size > images:
        raise SpecError(f"budget.batch_size: {batch_size} is more than the {images} training images. Lower it.")
    if batch_size < workers:
        raise SpecError(f"budget.batch_size: {batch_size} is less than the {workers} workers. Raise it.")


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same through one training. steps: in an epoch."""

    training: Training
    data: TrainingData
    steps: int
    group: Group

    @property
    def evaluated(self) -> Classifier:
        """The classifier that is evaluated, and that the training is for."""
        return self.training.averaged or self.training.classifier


def _train_epoch(
    run: _Run, epochs: EagerSteps | GraphSteps, epoch: int, on_step: Callable[[], None]
) -> tuple[float, float]:
    """Epoch number `epoch`, from 1: (mean loss over all ranks, last learning rate). Raises TrainingDiverged.

    The host waits for the device once, at the end.
    """
    spec, images = run.training.spec, run.training.images
    run.training.classifier.train()
    choices = epoch_choices(images, spec.batch_size, spec.regularizers, spec.seed, epoch, run.group)
    begun, peak = (epoch - 1) * run.steps, spec.optimizer.chosen.lr
    lrs = [lr_at(begun + step, run.steps * spec.epochs, peak, spec.schedule) for step in range(run.steps)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise_seed(spec.seed, epoch, run.group.rank))  # of dropout and its like
        total = epochs.epoch(choices, lrs, epoch == 1, on_step)
    if run.group.size > 1:
        dist.all_reduce(total)
    train_loss = total.item() / (run.steps * run.group.size)
    if not math.isfinite(train_loss):
        raise TrainingDiverged(
            f"epoch {epoch}: the training loss is {train_loss} at learning rate {lrs[-1]:.3g}. Lower it."
        )
    return train_loss, lrs[-1]


def share_weight(batch_size: int, group: Group) -> float:
    """Factor of a rank's mean loss: parallel training averages gradients over ranks, and this makes that the mean over
    the images of the global batch, even where the ranks' shares differ in size."""
    return len(share_of(batch_size, group)) * group.size / batch_size


def _evaluate(run: _Run, epoch: int, corrupted: bool) -> dict[str, float]:
    """The metrics of an epoch's record."""
    training = run.training
    average_buffers(training.classifier, run.group)
    if training.averaged is not None:
        average_buffers(training.averaged, run.group)
    if training.spec.train_on == "all":
        return {}
    error, loss = evaluate(run.evaluated, run.data.validation, training.precision, run.group)
    metrics = {"val/clean_error": error, "val/clean_loss": loss}
    if corrupted and run.data.corrupted is not None:
        metrics["val/corruption_error"] = evaluate(run.evaluated, run.data.corrupted, training.precision, run.group)[0]
    return metrics


def _prepare(spec: TrialSpec, data: TrainingData, device: torch.device, group: Group) -> _Run:
    """A training before its first step. Raises SpecError.

    Changes settings of the process: on a GPU, either all is deterministic, or cuDNN measures which of its convolutions
    is the fastest for each shape.
    """
    if device.type == "cuda":
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # read once, at cuBLAS's start; else not reproducible
        torch.use_deterministic_algorithms(spec.deterministic)
        torch.backends.cudnn.benchmark = not spec.deterministic
    images = _training_images(spec, data)
    refuse_batch(spec.batch_size, len(images.labels), group.size)
    steps = len(images.labels) // spec.batch_size
    classifier = _new_classifier(spec, data, group, device)
    training = Training(
        spec,
        images,
        classifier,
        averaged=copy.deepcopy(classifier).requires_grad_(False) if spec.regularizers.ema_decay else None,
        model=_step_module(classifier, spec, group, device),
        optimizer=make_optimizer(classifier, spec.optimizer),
        precision=resolve_precision(spec.precision, device),
        share_weight=share_weight(spec.batch_size, group),
    )
    return _Run(training, data, steps, group)


def _training_images(spec: TrialSpec, data: TrainingData) -> Images:
    return data.train if spec.train_on == "train" else data.train.followed_by(data.validation)


def _new_classifier(spec: TrialSpec, data: TrainingData, group: Group, device: torch.device) -> Classifier:
    """Weights from spec.seed alone, whatever the process has drawn before, and drawn on the CPU on any device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        r = spec.regularizers
        network = models.build(spec.model, data.train.images.shape[-1], r.dropout, r.stochastic_depth)
        classifier = Classifier(network, data.classes, data.mean, data.std, spec.regularizers.rotation is not None)
    if spec.sync_batchnorm and group.size > 1:
        if device.type != "cuda":
            raise SpecError("trainer.sync_batchnorm: works on GPUs only. Write false, or train with one worker.")
        classifier = nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
    classifier = classifier.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if isinstance(network, BeginsWithData):
        network.begin_with(classifier.normalise(data.train.part(0, min(BEGIN_IMAGES, len(data.train.labels)))))
    return classifier


def _step_module(classifier: Classifier, spec: TrialSpec, group: Group, device: torch.device) -> nn.Module:
    module: nn.Module = StepLogits(classifier)
    if group.size > 1:
        ids = [device] if device.type == "cuda" else None
        module = DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)
        if spec.gradient_precision == "bf16":
            module.register_comm_hook(None, bf16_compress_hook)
    return compiled(module, device) if spec.compile else module


def _restore(run: _Run, directory: Path | None, device: torch.device, note: Callable[[str], None]) -> list[EpochRecord]:
    """Changes the classifier and optimizer of `run` to those of the checkpoint; its history, empty without one."""
    found = None if directory is None else checkpoints.load(directory, run.training.spec, device, note)
    if found is None:
        return []
    training = run.training
    training.classifier.load_state_dict(found.model)
    if training.averaged is not None and found.averaged is not None:
        training.averaged.load_state_dict(found.averaged)
    groups = training.optimizer.state_dict()["param_groups"]  # these follow from the spec and the device
    training.optimizer.load_state_dict({"state": found.optimizer["state"], "param_groups": groups})
    return list(found.history)


def _checkpoint(run: _Run, history: list[EpochRecord]) -> Checkpoint:
    training = run.training
    return Checkpoint(
        spec=training.spec,
        history=list(history),
        model=training.classifier.state_dict(),
        averaged=None if training.averaged is None else training.averaged.state_dict(),
        optimizer=training.optimizer.state_dict(),
        classes=run.data.classes,
        image_px=run.data.train.images.shape[-1],
        mean=run.data.mean,
        std=run.data.std,
    )
