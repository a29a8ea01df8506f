import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn.errors import CheckpointError
from raycnn.files import disk_fault
from raycnn.spec.trial import Regularizers, Rotation, TrialSpec
from raycnn.training import checkpoint
from raycnn.training.checkpoint import LAST, PREVIOUS, load, load_classifier, read, save
from raycnn.training.loop import TrainingData, train

CPU = torch.device("cpu")


@pytest.fixture
def trained(spec: TrialSpec, data: TrainingData, tmp_path: Path) -> Path:
    """A directory with the checkpoints of epochs 2 and 1."""
    train(spec, data, CPU, directory=tmp_path, checkpoint_s=0)
    return tmp_path


def test_a_checkpoint_comes_back_as_it_was_saved(trained: Path, spec: TrialSpec, tmp_path: Path):
    first = read(trained / LAST)
    save(first, tmp_path / "again")
    second = load(tmp_path / "again", spec)
    assert second is not None
    assert (second.spec, second.history, second.mean, second.classes) == (spec, first.history, first.mean, 3)
    assert second.model.keys() == first.model.keys()
    assert all(torch.equal(second.model[key], first.model[key]) for key in first.model)


def test_the_last_two_are_kept_and_nothing_else(trained: Path):
    assert sorted(path.name for path in trained.iterdir()) == sorted([LAST, PREVIOUS])
    assert read(trained / LAST).epoch == 2
    assert read(trained / PREVIOUS).epoch == 1


def test_a_directory_without_a_checkpoint_gives_none(tmp_path: Path, spec: TrialSpec):
    assert load(tmp_path, spec) is None


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_torn_checkpoint_is_named_and_the_one_before_it_is_used(trained: Path, spec: TrialSpec, kept: float):
    last = trained / LAST
    last.write_bytes(last.read_bytes()[: int(kept * last.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: is torn or no checkpoint"):
        read(last)
    notes: list[str] = []
    found = load(trained, spec, note=notes.append)
    assert found is not None
    assert found.epoch == 1
    assert len(notes) == 1
    assert str(last) in notes[0]
    assert "after epoch 1" in notes[0]


def test_flipped_bytes_never_give_anything_but_a_checkpoint_or_its_error(trained: Path):
    whole = (trained / LAST).read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(0, len(whole), (40,), generator=generator).tolist():
        (trained / LAST).write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert read(trained / LAST).epoch == 2
        except CheckpointError as error:
            assert LAST in str(error)  # noqa: PT017


def test_after_two_torn_checkpoints_a_training_begins_anew_and_says_so(trained: Path, spec: TrialSpec):
    for name in (LAST, PREVIOUS):
        (trained / name).write_bytes(b"torn")
    notes: list[str] = []
    assert load(trained, spec, note=notes.append) is None
    assert len(notes) == 1
    assert notes[0].startswith(f"{trained / LAST}: is torn")
    assert notes[0].endswith("). The training begins anew.")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_checkpoint_that_cannot_be_read_is_no_damaged_one(
    trained: Path, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch, number: int
):
    def broken(path: Path, most: int) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(checkpoint, "read_file", broken)
    with pytest.raises(CheckpointError, match=os.strerror(number)) as raised:
        load(trained, spec)
    assert bool(disk_fault(raised.value)) == (number == errno.EIO), "or the trial would be judged by it"


def test_a_whole_checkpoint_for_which_there_is_no_memory_is_not_begun_anew(
    trained: Path, spec: TrialSpec, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(CheckpointError):
        load(trained, spec)


def test_a_process_killed_between_the_two_renames_loses_nothing(trained: Path, spec: TrialSpec):
    (trained / LAST).unlink()
    found = load(trained, spec)
    assert found is not None
    assert found.epoch == 1


def test_the_checkpoint_of_another_training_is_refused_with_the_difference(trained: Path, spec: TrialSpec):
    with pytest.raises(CheckpointError, match=r"another training: seed is 7, not 8\. Move it away\."):
        load(trained, spec.model_copy(update={"seed": 8}))


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, spec: TrialSpec):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / LAST).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        read(tmp_path / LAST)
    assert load(tmp_path, spec) is None
    torch.save({"raycnn_checkpoint": 1, "spec": Bomb()}, tmp_path / LAST)
    with pytest.raises(CheckpointError):
        read(tmp_path / LAST)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_a_later_format_says_so(tmp_path: Path):
    torch.save({"raycnn_checkpoint": 99}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"has format 99, and this raycnn, \d.*, reads 2"):
        read(tmp_path / LAST)


def test_a_directory_that_cannot_be_written_is_a_checkpoint_error(trained: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(read(trained / LAST), tmp_path / "file")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"none\.pt: no such checkpoint"):
        load_classifier(tmp_path / "none.pt")


def test_the_loaded_classifier_scores_as_the_trained_one(spec: TrialSpec, data: TrainingData, tmp_path: Path):
    spec = spec.model_copy(update={"regularizers": Regularizers(rotation=Rotation(weight=0.5))})
    trained = train(spec, data, CPU, directory=tmp_path)
    loaded = load_classifier(tmp_path / LAST)
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(data.validation.images), trained(data.validation.images))
