"""The journal file of a study: opened, mended, read. The only state of a search."""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raycnn.errors import DataError, DiskError
from raycnn.files import disk_fault, fault_words

JOURNAL = "study.journal"
PASSED_OVER, EARLIER = "passed over", "earlier"  # kinds of trials that are in the journal and not in the search
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _WholeLines(JournalFileBackend):
    """Its file ends with a whole line also where the disk was full in the middle of one: a line that came after half of
    one would be lost with it. Raises DiskError."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        before = self._journal.stat().st_size
        try:
            super().append_logs(logs)
        except Exception as error:
            with contextlib.suppress(OSError):  # what stays there is dropped when the journal is opened again
                os.truncate(self._journal, before)
            if fault := disk_fault(error):
                fault.filename = str(self._journal)
                raise DiskError(f"{fault_words(fault)}.") from error
            raise


def open_storage(journal: Path) -> JournalStorage:
    """The journal's storage, after mending what a killed writer has left: half a line, a lock. Raises DataError."""
    _mend(journal)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    try:
        with experimental():
            return JournalStorage(_WholeLines(journal))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{journal}: is damaged ({error!r}). Restore it from a copy, or give another --run.") from error


def read_trials(directory: Path) -> list[FrozenTrial]:
    """The trials of a run directory, without changing it. An empty list where there is no study."""
    journal = directory / JOURNAL
    if not journal.exists():
        return []
    with experimental():
        storage = JournalStorage(JournalFileBackend(str(journal)))
    studies = storage.get_all_studies()
    return of_search(storage.get_all_trials(studies[0]._study_id)) if studies else []


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
    """Changes the file: drops a damaged end, whose record its writer never saw succeed; keeps it beside the file.

    Raises DataError where a line before the end is damaged.
    """
    if not journal.exists():
        return
    lines = journal.read_bytes().splitlines(keepends=True)
    bad = [place for place, line in enumerate(lines) if not _is_record(line)]
    if not bad:
        return
    good = bad[0]
    if any(_is_record(line) for line in lines[good:]):
        raise DataError(
            f"{journal}: line {good + 1} of {len(lines)} is damaged, and what comes after it is not. Restore the file "
            "from a copy, or give another --run."
        )
    with journal.with_name(f"{journal.name}.cut").open("ab") as kept:
        kept.writelines(lines[good:])
    with journal.open("rb+") as file:
        file.truncate(sum(map(len, lines[:good])))


def _is_record(line: bytes) -> bool:
    """Whether it is a whole line of Optuna's journal."""
    try:
        record = json.loads(line)
    except ValueError:  # a UnicodeDecodeError is one
        return False
    return line.endswith(b"\n") and isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys()
