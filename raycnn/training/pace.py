"""How fast a setting trains here: the training itself, for a few steps on made-up images, timed."""

import itertools
import statistics
import time
from dataclasses import dataclass, replace

import torch

from raycnn.spec.trial import Optimizer, TrialSpec
from raycnn.training.batches import Images
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, train

PROBE_IMAGES = 4  # then as many more as the time allows
PROBE_STEPS = 2
UNTIMED_STEPS = {"cpu": 1, "cuda": 8}  # while memory is allocated, kernels are chosen, and a step is captured
MOST_STEPS = 40
MOST_BYTES = 500_000_000  # of made-up images
EVALUATED = {"cpu": 100, "cuda": 4000}  # images


@dataclass(frozen=True, slots=True)
class Pace:
    """train_s, evaluate_s: seconds for one image. steps: that were timed."""

    train_s: float
    evaluate_s: float
    steps: int

    def slower(self, factor: float) -> "Pace":
        return replace(self, train_s=self.train_s * factor, evaluate_s=self.evaluate_s * factor)

    def towards(self, other: "Pace", share: float) -> "Pace":
        """Between this one (0) and the other (1)."""
        train_s = self.train_s + share * (other.train_s - self.train_s)
        return Pace(train_s, self.evaluate_s + share * (other.evaluate_s - self.evaluate_s), self.steps + other.steps)


def measure(spec: TrialSpec, classes: int, image_px: int, device: torch.device, limit_s: float = 2.0) -> Pace:
    """Of one worker. limit_s: for the timed steps, roughly; on a processor a batch is as small as that needs, for
    there the time goes by the images.

    Without torch.compile, which would take a minute. Raises what the training raises.
    """
    spec = _harmless(spec)
    size = min(PROBE_IMAGES, spec.batch_size) if device.type == "cpu" else spec.batch_size
    probe = _timed(spec, classes, image_px, device, size, PROBE_STEPS, PROBE_IMAGES)
    while size < spec.batch_size and size * probe.train_s < limit_s / 6:
        size = min(4 * size, spec.batch_size)
        probe = _timed(spec, classes, image_px, device, size, PROBE_STEPS, PROBE_IMAGES)
    fit = MOST_BYTES // (3 * image_px**2 * size) - UNTIMED_STEPS.get(device.type, 1)
    steps = max(PROBE_STEPS, min(MOST_STEPS, fit, int(limit_s / (size * probe.train_s))))
    return _timed(spec, classes, image_px, device, size, steps, EVALUATED.get(device.type, 100))


def _harmless(spec: TrialSpec) -> TrialSpec:
    """With a learning rate at which nothing diverges."""
    kind, chosen = next((name, value) for name, value in spec.optimizer if value is not None)
    slow = Optimizer.model_validate({kind: chosen.model_copy(update={"lr": 1e-6})})
    return spec.model_copy(update={"epochs": 1, "optimizer": slow, "compile": False, "train_on": "train"})


def _timed(
    spec: TrialSpec, classes: int, image_px: int, device: torch.device, batch_size: int, steps: int, evaluated: int
) -> Pace:
    """An epoch of UNTIMED_STEPS and `steps` more; then so many images are evaluated."""
    untimed = UNTIMED_STEPS.get(device.type, 1)
    generator = torch.Generator().manual_seed(0)

    def made_up(count: int) -> Images:
        images = torch.randint(256, (count, 3, image_px, image_px), dtype=torch.uint8, generator=generator)
        labels = torch.arange(count) % classes
        return Images(images.to(device, memory_format=torch.channels_last), labels.to(device))

    grey = (0.5, 0.5, 0.5)
    data = TrainingData(made_up((untimed + steps) * batch_size), made_up(evaluated), None, grey, grey, classes)
    begun: list[float] = []
    ended: list[float] = []
    records: list[EpochRecord] = []

    def on_step() -> None:
        if len(begun) == untimed and device.type == "cuda":
            torch.cuda.synchronize(device)
        begun.append(time.monotonic())

    def on_epoch(record: EpochRecord) -> None:
        ended.append(time.monotonic() - record.evaluate_s)
        records.append(record)

    train(spec.model_copy(update={"batch_size": batch_size}), data, device, on_step=on_step, on_epoch=on_epoch)
    if device.type == "cpu":  # what else runs here disturbs some steps, not most
        seconds = statistics.median(b - a for a, b in itertools.pairwise([*begun[untimed:], ended[0]]))
    else:  # the host is ahead of the device
        seconds = (ended[0] - begun[untimed]) / steps
    return Pace(seconds / batch_size, records[0].evaluate_s / len(data.validation.labels), steps)
