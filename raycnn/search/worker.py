"""What the slots' workers do: hold the data, train a trial, log and report each epoch."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from raycnn.data.sources import DataSet, open_cached
from raycnn.slots.messages import Link, Workload
from raycnn.spec.trial import TrialSpec


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the driver gives the workers. data: the cache folder on this node, or the data set in Ray's object store.

    train, validation: indices into the training images. corrupted: .npy file or object of the corrupted held-out
    images, (corruptions, severities, n, h, w, 3), made of the first n validation images; None: not an objective.
    """

    data: Path | ray.ObjectRef
    train: np.ndarray
    validation: np.ndarray
    corrupted: Path | ray.ObjectRef | None
    cpus: float


@dataclass(frozen=True, slots=True)
class Training:
    """A task's payload: one training with its own directory."""

    spec: TrialSpec
    directory: Path
    checkpoint_s: float
    corruption_epochs: frozenset[int]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What a training reports. notes: what the user should hear of, such as a torn checkpoint."""

    record: Any  # training.loop.EpochRecord
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _State:
    data: Any  # training.loop.TrainingData
    device: Any


def prepare(preparation: Preparation) -> _State:
    """The data on this worker's device."""
    import torch

    from raycnn.training.loop import TrainingData

    torch.set_num_threads(max(1, round(preparation.cpus)))
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # the first one in a process imports for 1.5 s
    device = _device()
    source = preparation.data
    data: DataSet = open_cached(source) if isinstance(source, Path) else ray.get(source)
    corrupted = None
    if preparation.corrupted is not None:
        corrupted = _corrupted(preparation, data.train.labels, device)
    return _State(
        TrainingData(
            train=_resident(data.train.images[preparation.train], data.train.labels[preparation.train], device),
            validation=_resident(
                data.train.images[preparation.validation], data.train.labels[preparation.validation], device
            ),
            corrupted=corrupted,
            mean=data.mean,
            std=data.std,
            classes=len(data.class_names),
        ),
        device,
    )


def train_task(training: Training, state: _State, link: Link) -> None:
    """Train, report each epoch, keep metrics.jsonl."""
    from raycnn.training.loop import EpochRecord, Group, train

    log = training.directory / "metrics.jsonl"
    begun = False
    notes: list[str] = []

    def on_epoch(record: EpochRecord) -> None:
        nonlocal begun
        if link.rank == 0:
            if not begun:
                _forget_epochs_from(log, record.epoch)
            with log.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(record)) + "\n")
        begun = True
        told = tuple(notes)
        notes.clear()
        link.report(record.epoch, EpochReport(record, told))

    if link.rank == 0:
        training.directory.mkdir(parents=True, exist_ok=True)
    train(
        training.spec,
        state.data,
        state.device,
        group=Group(link.rank, link.size),
        directory=training.directory,
        checkpoint_s=training.checkpoint_s,
        corruption_epochs=training.corruption_epochs,
        on_epoch=on_epoch,
        on_step=link.beat,
        note=notes.append,
    )


WORKLOAD = Workload(prepare, train_task)


def _device() -> Any:
    import ray.train.torch

    return ray.train.torch.get_device()


def _corrupted(preparation: Preparation, labels: np.ndarray, device: Any) -> Any:
    source = preparation.corrupted
    assert source is not None
    images = np.load(source, mmap_mode="r", allow_pickle=False) if isinstance(source, Path) else ray.get(source)
    corruptions, severities, count = images.shape[:3]
    held_out = labels[preparation.validation[:count]]
    return _resident(images.reshape(-1, *images.shape[3:]), np.tile(held_out, corruptions * severities), device)


def _resident(images: np.ndarray, labels: np.ndarray, device: Any) -> Any:
    """(n, h, w, 3) uint8 as (n, 3, h, w) in channels_last order on the device."""
    import torch

    from raycnn.training.loop import Images

    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return Images(pixels.to(device), torch.from_numpy(np.array(labels, dtype=np.int64)).to(device))


def _forget_epochs_from(log: Path, epoch: int) -> None:
    """Changes the file: drops the lines from `epoch` on, which a resumed training writes again."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if _epoch(line) < epoch]
        log.write_text("".join(f"{line}\n" for line in lines))


def _epoch(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except json.JSONDecodeError:  # torn by a kill
        return float("inf")
