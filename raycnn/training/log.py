"""metrics.jsonl: a line for each epoch of a training."""

import json
from dataclasses import asdict
from pathlib import Path

from raycnn.training.checkpoint import EpochRecord

NAME = "metrics.jsonl"


class EpochLog:
    """Appends to metrics.jsonl in `directory`, which it makes. The first record of a training that goes on replaces
    those that the file has from its epoch on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / NAME
        self._begun = False

    def write(self, record: EpochRecord) -> None:
        """Append one line."""
        if not self._begun:
            _forget_epochs_from(self._path, record.epoch)
            self._begun = True
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")


def _forget_epochs_from(path: Path, epoch: int) -> None:
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _epoch(line) < epoch]
        path.write_text("".join(f"{line}\n" for line in lines))


def _epoch(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except json.JSONDecodeError:  # torn by a kill
        return float("inf")
