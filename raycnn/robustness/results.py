"""robustness.parquet: a row for each model, seed, set, corruption, severity and metric."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raycnn.robustness.evaluate import Row
from raycnn.robustness.units import Unit

RESULTS = "robustness.parquet"
SAVE_S = 10.0  # least seconds between two writes


class Results:
    """The file's rows, held in memory and written now and then. What it holds is not scored again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = pd.read_parquet(path).to_dict("records") if path.exists() else []
        self._saved = time.monotonic()

    def missing(self, unit: Unit, models: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """The models, by name and seed, that this unit has no row of."""
        known = {
            (row["model"], row["seed"])
            for row in self._rows
            if (row["set"], row["name"], row["n"]) == (unit.set, unit.name, unit.n)
        }
        return [model for model in models if model not in known]

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of a unit."""
        self._rows += [dataclasses.asdict(row) for row in rows]
        if time.monotonic() - self._saved > SAVE_S:
            self.save()

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """All rows, as in the file."""
        return self._rows

    def save(self) -> None:
        """Write the file, whole or not at all."""
        types = {"severity": "Int64", "errors": "Int64", "seed": "int64", "n": "int64"}
        temporary = self.path.with_suffix(".tmp")
        pd.DataFrame(self._rows).astype(types).to_parquet(temporary)
        temporary.replace(self.path)
        self._saved = time.monotonic()
