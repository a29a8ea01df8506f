"""What the slots' workers do: hold the data, train a trial, log and report each epoch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray

from raycnn.data.sealing import seal
from raycnn.data.sources import DataSet, open_cached
from raycnn.models.trust import Trusted, adopt
from raycnn.search.head_files import HeadFiles, training_directory
from raycnn.slots.gpu import gpu_share
from raycnn.slots.messages import Link, Workload
from raycnn.spec.trial import TrialSpec


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the driver gives the workers. data: the cache folder on this node, or the data set in Ray's object store.

    train, validation: indices into the training images. corrupted: .npy file or object of the corrupted held-out
    images, (corruptions, severities, n, h, w, 3), made of the first n validation images; None: not an objective.
    sealed: test images, which a worker shall not be able to open. files: how nodes that do not share the run directory
    reach it; None: there is one node. trusted: the networks of the user's own that may be imported.
    """

    data: Path | ray.ObjectRef
    train: np.ndarray
    validation: np.ndarray
    corrupted: Path | ray.ObjectRef | None
    cpus: float
    sealed: tuple[Path, ...] = ()
    files: HeadFiles | None = None
    trusted: Trusted = field(default_factory=Trusted)


@dataclass(frozen=True, slots=True)
class Training:
    """A task's payload: one training with its own directory."""

    spec: TrialSpec
    directory: Path
    checkpoint_s: float
    corruption_epochs: frozenset[int]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What a training reports. notes: what the user should hear of, such as a torn checkpoint.

    seconds: of all its epochs until now, those before an interrupt among them.
    """

    record: Any  # training.loop.EpochRecord
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _State:
    data: Any  # training.loop.TrainingData
    device: Any
    files: HeadFiles | None  # None: the run directory is here


def prepare(preparation: Preparation) -> _State:
    """The data on this worker's device."""
    import torch

    from raycnn.training.resident import training_data

    seal(preparation.sealed)
    adopt(preparation.trusted)
    torch.set_num_threads(max(1, round(preparation.cpus)))
    torch.optim.SGD([torch.zeros(1)], lr=0.1)  # the first one in a process imports for 1.5 s
    device = _device()
    source = preparation.data
    data: DataSet = open_cached(source) if isinstance(source, Path) else ray.get(source)
    corrupted = _corrupted(preparation.corrupted)
    files = preparation.files
    if files is not None and files.shared_here():
        files = None
    share = gpu_share()
    prepared = training_data(data, preparation.train, preparation.validation, corrupted, device, share=share)
    return _State(prepared, device, files)


def train_task(training: Training, state: _State, link: Link) -> None:
    """Train, report each epoch, keep metrics.jsonl."""
    from raycnn.training.log import EpochLog, EpochRecord
    from raycnn.training.loop import Group, train

    notes: list[str] = []
    with training_directory(state.files, training.directory) as (directory, keep):
        log = EpochLog(directory) if link.rank == 0 else None

        def on_epoch(record: EpochRecord) -> None:
            if log is not None:
                log.write(record)
                keep()
            told = tuple(notes)
            notes.clear()
            link.report(record.epoch, EpochReport(record, told, log.seconds if log else 0.0))

        train(
            training.spec,
            state.data,
            state.device,
            group=Group(link.rank, link.size),
            directory=directory,
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


def _corrupted(source: Path | ray.ObjectRef | None) -> np.ndarray | None:
    if source is None:
        return None
    return np.load(source, mmap_mode="r", allow_pickle=False) if isinstance(source, Path) else ray.get(source)
