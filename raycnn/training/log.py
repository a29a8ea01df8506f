"""metrics.jsonl: a line for each epoch of a training, with a check of itself.

Without torch: what only hands records on does not import it.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raycnn.digest import COMPACT, read_line, with_check
from raycnn.errors import CheckpointError, DataError
from raycnn.files import MOST_LOG_BYTES, naming, read_file, write_atomically

NAME = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What is known after an epoch.

    epoch: finished epochs; images: trained in total; lr: of the epoch's last step; train_loss: mean over its steps.
    metrics: "val/clean_error", "val/clean_loss", and "val/corruption_error" where it was evaluated; fractions of 1.
    """

    epoch: int
    images: int
    lr: float
    train_loss: float
    metrics: dict[str, float]
    train_s: float
    evaluate_s: float


class EpochLog:
    """Appends to metrics.jsonl in `directory`, which it makes. The first record of a training that goes on replaces
    those that the file has from its epoch on. seconds: of all epochs, those before an interrupt among them."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / NAME
        self._begun = False
        self.seconds = 0.0

    def write(self, record: EpochRecord) -> None:
        """Append one line. Raises OSError, which names the file."""
        if not self._begun:
            earlier = self._earlier(record.epoch)
            write_atomically(self._path, "".join(map(_line, earlier)))
            self.seconds = sum(one.get("train_s", 0.0) + one.get("evaluate_s", 0.0) for one in earlier)
            self._begun = True
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(asdict(record)))
        self.seconds += record.train_s + record.evaluate_s

    def _earlier(self, epoch: int) -> list[dict[str, Any]]:
        """The records before an epoch. Those whose lines are lost or damaged are taken from the checkpoint."""
        found = {one["epoch"]: one for one in read_records(self._path) if one["epoch"] < epoch}
        if len(found) < epoch - 1:
            from raycnn.training.checkpoint import LAST, PREVIOUS, read  # torch comes with it

            for name in (PREVIOUS, LAST):
                with contextlib.suppress(CheckpointError):
                    history = read(self._path.with_name(name)).history
                    found |= {one.epoch: asdict(one) for one in history if one.epoch < epoch}
        return [found[epoch] for epoch in sorted(found)]


def read_records(path: Path) -> list[dict[str, Any]]:
    """The epochs in a metrics.jsonl, as EpochRecord has them, without lines that are torn or damaged; none if it is
    not there. Raises DataError."""
    records = [record for line in _lines(path) if (record := read_line(line)) is not None]
    return [record for record in records if _is_record(record)]


def damaged_lines(path: Path) -> int:
    """How many lines of a metrics.jsonl are not what was written; a last one that a kill has torn is none of them."""
    return sum(read_line(line) is None for line in _lines(path)[:-1])


def _lines(path: Path) -> list[bytes]:
    """With what stands behind the last newline; empty where there is no file."""
    try:
        return read_file(path, MOST_LOG_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Mend that, or remove it.") from error


def _line(record: dict[str, Any]) -> str:
    return json.dumps(with_check(record), separators=COMPACT) + "\n"


def _is_record(record: dict[str, Any]) -> bool:
    """Whether it has the form of an EpochRecord, in what it has: lines of earlier versions have no check."""
    numbers = ("train_loss", "train_s", "evaluate_s")
    return (
        type(record.get("epoch")) is int
        and all(isinstance(record.get(name, 0.0), int | float) for name in numbers)
        and isinstance(record.get("metrics", {}), dict)
    )
