"""metrics.jsonl: a line for each epoch of a training. Without torch: what only hands records on does not import it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raycnn.files import naming, write_atomically

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
            earlier = [one for one in read_records(self._path) if one["epoch"] < record.epoch]
            write_atomically(self._path, "".join(json.dumps(one) + "\n" for one in earlier))
            self.seconds = sum(one["train_s"] + one["evaluate_s"] for one in earlier)
            self._begun = True
        with naming(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        self.seconds += record.train_s + record.evaluate_s


def read_records(path: Path) -> list[dict[str, Any]]:
    """The epochs in a metrics.jsonl, as EpochRecord has them, without a line that a kill has torn; none if it is not
    there."""
    found: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
