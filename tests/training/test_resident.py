"""Images that are streamed from their memory map train as those that are held in memory."""

import numpy as np
import pytest
import torch

from raycnn.data.sources import DataSet, load
from raycnn.spec.data import DataSpec
from raycnn.spec.trial import Cutout, Mixup, Optimizer, Regularizers, Rotation, Sgd, TrialSpec
from raycnn.training import resident
from raycnn.training.batches import Images
from raycnn.training.log import EpochRecord
from raycnn.training.loop import TrainingData, train
from raycnn.training.resident import training_data

CPU = torch.device("cpu")
CORRUPTED = np.random.default_rng(0).integers(0, 256, (2, 5, 20, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(DataSpec(name="shapes", train_images=260, test_images=20))


def made(data: DataSet, streamed: bool | None) -> TrainingData:
    order = np.random.default_rng(1).permutation(260)
    return training_data(data, order[:200], order[200:], CORRUPTED, CPU, streamed)


@pytest.mark.parametrize("train_on", ["train", "all"])
def test_streamed_images_give_the_same_training_bit_for_bit(data: DataSet, train_on: str):
    spec = TrialSpec(
        model="fastnet",
        epochs=2,
        batch_size=50,
        regularizers=Regularizers(cutout=Cutout(size_px=8), mixup=Mixup(alpha=0.5), rotation=Rotation(weight=0.5)),
        optimizer=Optimizer(sgd=Sgd(lr=0.05)),
        train_on=train_on,  # pyright: ignore[reportArgumentType]
    )
    seen: dict[bool, list[EpochRecord]] = {False: [], True: []}
    for streamed, records in seen.items():
        there = made(data, streamed)
        assert (there.train.rows is not None) == streamed
        train(spec, there, CPU, on_epoch=records.append)
    assert [(r.train_loss, r.metrics) for r in seen[True]] == [(r.train_loss, r.metrics) for r in seen[False]]


def test_images_are_streamed_when_they_are_too_large(data: DataSet, monkeypatch: pytest.MonkeyPatch):
    whole = made(data, None)
    assert whole.train.rows is whole.validation.rows is None
    monkeypatch.setattr(resident, "RESIDENT_CPU_BYTES", data.train.images.nbytes - 1)
    streamed = made(data, None)
    assert streamed.train.rows is not None
    assert streamed.train.images.untyped_storage().data_ptr() == data.train.images.ctypes.data  # nothing was copied
    assert streamed.corrupted is not None
    assert whole.corrupted is not None
    assert torch.equal(streamed.corrupted.part(0, 200), whole.corrupted.part(0, 200))
    assert torch.equal(streamed.corrupted.labels, whole.corrupted.labels)


def test_training_on_all_images_holds_none_of_them_twice(data: DataSet):
    resident = made(data, streamed=False)
    both = resident.train.followed_by(resident.validation)
    assert both.images.data_ptr() == resident.train.images.data_ptr()
    assert torch.equal(both.part(200, 260), resident.validation.part(0, 60))
    assert torch.equal(both.labels, torch.cat([resident.train.labels, resident.validation.labels]))
    apart = Images(resident.validation.images.clone(memory_format=torch.channels_last), resident.validation.labels)
    copied = resident.train.followed_by(apart)
    assert copied.images.data_ptr() != resident.train.images.data_ptr()
    assert torch.equal(copied.images, both.images)


@pytest.mark.parametrize(("share", "free", "room"), [(1.0, 80, 32.0), (0.25, 80, 8.0), (0.25, 10, 4.0)])
def test_images_take_of_a_shared_gpu_what_a_fraction_of_it_has_room_for(monkeypatch, share, free, room):
    """Four workers with a quarter each once took 40 % each of what was free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80))
    assert resident._room(torch.device("cuda"), share) == pytest.approx(room)
