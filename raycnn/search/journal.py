"""The journal file of a study: opened, mended, read. The only state of a search."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raycnn.digest import read_line, with_check
from raycnn.errors import DataError, DiskError
from raycnn.files import MOST_LOG_BYTES, disk_fault, fault_words, read_file

JOURNAL, TRIALS = "study.journal", "trials"
PASSED_OVER, EARLIER = "passed over", "earlier"  # kinds of trials that are in the journal and not in the search
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Records(JournalFileBackend):
    """Its file ends with a whole line also where the disk was full in the middle of one: a line that came after half of
    one would be lost with it. Each record carries a check of itself, under a key that Optuna passes over. Raises
    DiskError."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        before = self._journal.stat().st_size
        try:
            super().append_logs([with_check(log) for log in logs])
        except Exception as error:
            with contextlib.suppress(OSError):  # what stays there is dropped when the journal is opened again
                os.truncate(self._journal, before)
            if fault := disk_fault(error):
                fault.filename = str(self._journal)
                raise DiskError(f"{fault_words(fault)}.") from error
            raise


def open_storage(journal: Path) -> JournalStorage:
    """The journal's storage, after mending what a killed writer has left: half a line, a lock.

    Raises DataError where it is damaged, or where trials have been trained that it knows nothing of.
    """
    _mend(journal)
    _refuse_lost(journal)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    return _replayed(journal)


def read_trials(directory: Path) -> list[FrozenTrial]:
    """The trials of a run directory, without changing it. An empty list where there is no study. Raises DataError."""
    journal = directory / JOURNAL
    _refuse_lost(journal)
    if not journal.exists():
        return []
    _whole_bytes(journal)
    storage = _replayed(journal)
    studies = storage.get_all_studies()
    return of_search(storage.get_all_trials(studies[0]._study_id)) if studies else []


def directories_of_trials(run: Path) -> dict[int, Path]:
    """By number; those in which something was trained."""
    found = (path for path in (run / TRIALS).glob("*") if path.name.isdigit() and _has_content(path))
    return {int(path.name): path for path in sorted(found)}


def _has_content(directory: Path) -> bool:
    """An empty file is what a training leaves that was killed before its first epoch."""
    return any(path.is_file() and path.stat().st_size for path in directory.rglob("*"))


def begun(trials: list[FrozenTrial]) -> set[int]:
    """The numbers of those whose training has begun."""
    return {trial.number for trial in trials if "spec" in trial.user_attrs}


def lost_trials(run: Path) -> list[Path]:
    """Directories of trials that the journal does not know to have begun: its end is lost, or was never copied here."""
    known = begun(read_trials(run))
    return [directory for number, directory in directories_of_trials(run).items() if number not in known]


def _refuse_lost(journal: Path) -> None:
    """A new study must not take the place of one whose trials are there."""
    trained = directories_of_trials(journal.parent)
    if trained and not (journal.exists() and journal.stat().st_size):
        what = "is empty" if journal.exists() else "is missing"
        raise DataError(
            f"{journal}: {what}, and {journal.parent / TRIALS} holds {len(trained)} of its trials. Restore it from a "
            f"copy; to begin anew, move {TRIALS} away, or give another --run."
        )


def _replayed(journal: Path) -> JournalStorage:
    try:
        with experimental():
            return JournalStorage(_Records(journal))
    except OSError:
        raise
    except Exception as error:  # Optuna takes records as they come: wrong ones raise nearly anything
        raise _damaged(journal, repr(error)) from error


def of_search(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Without what was passed over, and what earlier runs had."""
    return [trial for trial in trials if trial.user_attrs.get("kind") not in (PASSED_OVER, EARLIER)]


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Optuna warns of parts that may change or go; the pinned version's were tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _mend(journal: Path) -> None:
    """Changes the file: drops a torn end, whose record its writer never saw succeed; keeps it beside the file.

    Raises DataError for other damage.
    """
    if not journal.exists():
        return
    whole = _whole_bytes(journal)
    if whole == journal.stat().st_size:
        return
    with journal.open("rb+") as file, journal.with_name(f"{journal.name}.cut").open("ab") as kept:
        file.seek(whole)
        kept.write(file.read())
        file.truncate(whole)
        os.fsync(file.fileno())


def _whole_bytes(journal: Path) -> int:
    """How much of the journal is whole records: all but a torn end. Raises DataError for any other damage."""
    try:
        content, whole = read_file(journal, MOST_LOG_BYTES), 0
    except OSError as error:
        raise DataError(f"{journal}: cannot be read ({error.strerror}). Mend that.") from error
    while whole < len(content):
        end = content.find(b"\n", whole) + 1 or len(content)
        if not _is_record(content[whole:end]):
            if not _is_torn(content[whole:]):
                line = content.count(b"\n", 0, whole) + 1
                raise _damaged(journal, f"line {line} is not what was written")
            break
        whole = end
    return whole


def _is_torn(end: bytes) -> bool:
    """Whether a kill or a power cut leaves such an end: half a line, or zeros; not a whole line that is wrong."""
    if any(_is_record(line + b"\n") for line in end.split(b"\n")[:-1]):
        return False
    return b"\0" in end or not end.strip() or (b"\n" not in end and not _is_record(end[:-1] + b"\n"))


def _is_record(line: bytes) -> bool:
    """Whether it is a whole line of Optuna's journal."""
    record = read_line(line)
    return line.endswith(b"\n") and record is not None and {"op_code", "worker_id"} <= record.keys()


def _damaged(journal: Path, why: str) -> DataError:
    return DataError(
        f"{journal}: is damaged ({' '.join(why.split())[:200]}). Restore it from a copy, or give another --run."
    )
