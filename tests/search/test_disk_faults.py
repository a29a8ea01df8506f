"""A disk that is full or broken under what the driver and the workers write: named, no result, nothing torn."""

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from test_worker import SPEC, Link, state  # noqa: F401 a fixture

from raycnn.errors import DiskError
from raycnn.files import disk_fault, fault_words
from raycnn.search.journal import JOURNAL, read_trials
from raycnn.search.observer import Silent
from raycnn.search.searcher import StudySearcher
from raycnn.search.study import Study
from raycnn.search.worker import Training, train_task
from raycnn.slots.messages import UnfitEverywhere
from raycnn.spec.reading import search_from_text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Tune imports

SEARCH = search_from_text(
    """
name: t
data: {name: shapes}
model: fastnet
budget: {epochs: 2, batch_size: 256}
space: {optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}}}
search: {trials: 5, sampler: random, objectives: [val/clean_error]}
""",
    "SEARCH",
)
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def broken(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def fill(disk: Path, leaving: int = 0) -> Path:
    """The file that takes all room of `disk` but so many bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - leaving)
    return filler


@pytest.mark.parametrize("number", DISK_FAULTS)
def test_a_broken_disk_under_a_training_is_no_fault_of_its_setting(state, tmp_path, monkeypatch, number):  # noqa: F811
    def fail(_: int) -> None:
        raise broken(number)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnfitEverywhere, match=os.strerror(number)) as raised:
        train_task(Training(SPEC, tmp_path, 0.0, frozenset()), state, Link())
    assert str(tmp_path) in str(raised.value)


def test_a_fault_is_found_behind_what_was_raised_for_it_and_no_other_error_is_one():
    def raised(number: int) -> Exception:
        try:
            try:
                raise broken(number)
            except OSError as error:
                raise ValueError("a traceback as text") from error
        except ValueError as error:
            return error

    found = disk_fault(raised(errno.ENOSPC))
    assert found is not None
    found.filename = "/runs/a"
    assert fault_words(found) == "/runs/a: No space left on device. Free space there"
    assert disk_fault(raised(errno.ENOENT)) is None
    assert disk_fault(None) is None


def test_a_record_that_the_disk_cuts_in_half_is_taken_back_and_the_trial_waits(small_disk: Path):
    study = Study(small_disk, SEARCH)
    filler = fill(small_disk, leaving=4096)
    begun: list[int] = []

    def ask_until_full() -> None:
        while asked := study.ask():
            begun.append(asked.number)
            study.fail(asked.number, "x" * 700, {}, {})  # so that the end falls into a record

    with pytest.raises(DiskError, match=r"study.journal: No space left on device\. Free space there\."):
        ask_until_full()
    assert (small_disk / JOURNAL).read_bytes().endswith(b"}\n")
    assert not list(small_disk.glob("*.lock"))
    filler.unlink()
    finished = [t.number for t in read_trials(small_disk) if t.state.is_finished()]
    again = Study(small_disk, SEARCH)
    asked = again.ask()
    assert asked is not None
    assert asked.number == len(finished)
    assert not (small_disk / f"{JOURNAL}.cut").exists()


def searcher(run: Path) -> StudySearcher:
    return StudySearcher(Study(run, SEARCH), SEARCH, lambda: 2, Silent())


def test_when_no_slot_can_train_no_trial_is_marked_and_no_further_one_begins(tmp_path: Path):
    asked = searcher(tmp_path)
    first, second = asked.suggest("a"), asked.suggest("b")
    assert {first["number"], second["number"]} == {0, 1}
    outcome = {"epoch": 0, "outcome": "stopped", "reason": "the disk is full", "repeats": "[{}]", "train/seconds": 0}
    asked.on_trial_complete("a", outcome)
    asked.on_trial_complete("b", {"epoch": 1, "images": 1, "train/seconds": 1})
    assert asked.hopeless == "the disk is full"
    assert asked.suggest("c") == StudySearcher.FINISHED
    assert {trial.state for trial in read_trials(tmp_path)} == {TrialState.RUNNING}
    assert searcher(tmp_path).suggest("d")["number"] == 0


class Warned(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_baseline_that_fails_is_told_at_once_and_the_search_goes_on(tmp_path: Path):
    heard = Warned()
    asked = StudySearcher(Study(tmp_path, SEARCH), SEARCH, lambda: 1, heard)
    asked.suggest("a")
    outcome = {"epoch": 0, "outcome": "failed", "reason": "OutOfMemoryError: so large", "repeats": "[{}]"}
    asked.on_trial_complete("a", outcome | {"train/seconds": 0})
    (warning,) = heard.warnings
    assert warning.startswith("the untuned baseline failed: OutOfMemoryError: so large. The search goes on; the finals")
    assert asked.suggest("b")["number"] == 1


def test_a_note_of_many_trials_is_told_once(tmp_path: Path):
    heard = Warned()
    asked = StudySearcher(Study(tmp_path, SEARCH), SEARCH, lambda: 2, heard)
    for name in "ab":
        asked.suggest(name)
        asked.on_trial_result(name, {"epoch": 1, "images": 1, "train/seconds": 1, "note": "it is not captured"})
    assert heard.warnings == ["trial 0: it is not captured"]


def test_events_whose_writer_the_disk_has_ended_are_an_error_and_no_wait_without_end(tmp_path: Path, monkeypatch):
    from tensorboardX.event_file_writer import EventsWriter

    from raycnn.search.tuning import _Events

    trial: Any = Mock(local_path=str(tmp_path), evaluated_params={})
    result = {"training_iteration": 1, **{f"value-{index}": float(index) for index in range(30)}}
    events = _Events()
    events.log_trial_result(1, trial, dict(result))
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    whole = EventsWriter.flush

    def full(_: Any) -> None:
        raise broken(errno.ENOSPC)

    monkeypatch.setattr(EventsWriter, "write_event", full)
    monkeypatch.setattr(EventsWriter, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        events.log_trial_result(2, trial, dict(result))
    writer: Any = events._trial_writer[trial].file_writer
    thread = writer.event_writer._worker
    thread.join(30)
    assert not thread.is_alive()
    with pytest.raises(OSError, match="No space left"):
        events.log_trial_result(3, trial, dict(result))
    monkeypatch.setattr(EventsWriter, "flush", whole)
    events.log_trial_end(trial)
