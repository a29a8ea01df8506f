"""metrics.jsonl: a line for each epoch of a training."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raycnn.training.checkpoint import EpochRecord

NAME = "metrics.jsonl"


class EpochLog:
    """Appends to metrics.jsonl in `directory`, which it makes. The first record of a training that goes on replaces
    those that the file has from its epoch on. seconds: of all epochs, those before an interrupt among them."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / NAME
        self._begun = False
        self.seconds = 0.0

    def write(self, record: EpochRecord) -> None:
        """Append one line."""
        if not self._begun:
            earlier = [one for one in read_records(self._path) if one["epoch"] < record.epoch]
            self._path.write_text("".join(json.dumps(one) + "\n" for one in earlier))
            self.seconds = sum(one["train_s"] + one["evaluate_s"] for one in earlier)
            self._begun = True
        with self._path.open("a") as file:
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
