"""What a slot's worker does with a training: its log, and what it tells."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn.search.worker import EpochReport, Training, _State, train_task
from raycnn.slots.messages import UnfitEverywhere
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.loop import Images, TrainingData

SPEC = TrialSpec(model="fastnet", epochs=3, batch_size=20, optimizer=Optimizer(sgd=Sgd(lr=0.05)), precision="fp32")


class Link:
    """Keeps what is reported."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []

    def report(self, step: int, content: Any) -> None:
        self.reports.append(content)

    def beat(self) -> None:
        pass


@pytest.fixture
def state() -> _State:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 8, 8, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    images = Images(pixels, torch.arange(60) % 3)
    return _State(TrainingData(images, images, None, (0.5,) * 3, (0.3,) * 3, 3), torch.device("cpu"), None)


def logged(directory: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_torn_checkpoint_is_told_and_the_epochs_after_the_one_before_it_are_logged_once(state, tmp_path):
    training = Training(SPEC, tmp_path, 0.0, frozenset())
    first = Link()
    train_task(training, state, first)
    assert [report.notes for report in first.reports] == [(), (), ()]
    assert logged(tmp_path) == [1, 2, 3]
    last = tmp_path / "checkpoint.pt"
    last.write_bytes(last.read_bytes()[:1000])
    again = Link()
    train_task(training, state, again)
    assert [report.record.epoch for report in again.reports] == [2, 3]
    (note,) = again.reports[0].notes
    assert str(last) in note
    assert "after epoch 2" in note
    assert again.reports[1].notes == ()
    seconds = [report.record.train_s + report.record.evaluate_s for report in (first.reports[0], *again.reports)]
    assert again.reports[1].seconds == pytest.approx(sum(seconds)), "also those before the interrupt"
    assert logged(tmp_path) == [1, 2, 3]


def test_a_disk_that_fills_up_ends_the_training_with_the_reason_and_it_goes_on_when_there_is_room(state, small_disk):
    filler = small_disk / "filler"

    class Filling(Link):
        def report(self, step: int, content: Any) -> None:
            super().report(step, content)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            assert shutil.disk_usage(small_disk).free == 0

    training = Training(SPEC, small_disk / "trial", 0.0, frozenset())
    filled = Filling()
    with pytest.raises(UnfitEverywhere, match=r"checkpoint.pt: No space left on device\. Free space there"):
        train_task(training, state, filled)
    assert [report.record.epoch for report in filled.reports] == [1]
    assert sorted(path.name for path in training.directory.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]
    filler.unlink()
    again = Link()
    train_task(training, state, again)
    assert [report.record.epoch for report in again.reports] == [1, 2, 3]
    assert [report.notes for report in again.reports] == [(), (), ()]
    assert logged(training.directory) == [1, 2, 3]
