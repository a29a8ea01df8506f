"""What a scoring leaves behind in a run directory, and reading it again.

robustness.parquet: a row for each model, seed, set, name and severity. outcomes/<set>/<name>.parquet: what happened on
each single image, from which intervals and paired tests are made.
"""

import dataclasses
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from raycnn.errors import DataError
from raycnn.invocation import command
from raycnn.tables import read_table, write_table

if TYPE_CHECKING:
    from raycnn.robustness.units import Unit  # which imports torch

RESULTS = "robustness.parquet"
OUTCOMES = "outcomes"
SAVE_S = 10.0  # least seconds between two writes of all rows

Key = tuple[str, int]
"""A training: the name of its model, and its seed."""


def epsilon_name(epsilon: float) -> str:
    """As rows of attacks are named: "eps=0.0314"."""
    return f"eps={epsilon:.4f}"


@dataclass(frozen=True, slots=True)
class Row:
    """The scores of one training on some images, or videos; None: that score does not exist there.

    set: such as "cifar-10-c"; name: of the corruption, or "clean"; severity: 0 for clean images, None where there is
    no such thing. n: images, or videos. errors: how many of them are wrong; adapted_errors: the same, with batch norm's
    statistics taken from the test images themselves. loss: mean cross-entropy in nats. calibration: expected
    calibration error; rms_calibration: the root mean square one. The others: as in `metrics`.
    images, weights: fingerprints of what was scored; weights: "" in files of earlier versions.
    """

    model: str
    seed: int
    set: str
    name: str
    severity: int | None
    n: int
    errors: int | None = None
    adapted_errors: int | None = None
    loss: float | None = None
    calibration: float | None = None
    rms_calibration: float | None = None
    flip_probability: float | None = None
    top5_distance: float | None = None
    zipf_distance: float | None = None
    images: str = ""
    precision: str = "fp32"
    weights: str = ""

    @property
    def key(self) -> Key:
        return self.model, self.seed

    @property
    def error(self) -> float | None:
        """A fraction in [0, 1]."""
        return None if self.errors is None else self.errors / self.n


@dataclass(frozen=True, slots=True)
class Scored:
    """A row, and what happened on each of its images, float32 (n,) each.

    `wrong` (0 or 1) and `confidence` of images; `flips`, `top5` and `zipf` of videos.
    """

    row: Row
    outcomes: Mapping[str, np.ndarray]


Place = tuple[str, str, int | None, str]
"""Set, name, severity and kind of outcomes."""
Outcomes = dict[Place, dict[Key, np.ndarray]]


class Results:
    """The scores of a run, held in memory and written as they come."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.rows: list[Row] = list(read_rows(run) or ())
        self._saved = time.monotonic()

    def drop_stale(self, images: Mapping[str, Collection[str]], weights: Mapping[Key, str]) -> int:
        """Drop, on disk too, what cannot stand beside new scores, and rows whose outcomes are lost or damaged; returns
        how many rows that are.

        images: set -> fingerprints of all that is wished of it; rows of other images go, whatever their model.
        weights: of models; rows of other weights go, whatever their set.
        """
        before = len(self.rows)
        self.rows = [
            row
            for row in self.rows
            if row.images in images.get(row.set, (row.images,)) and row.weights == weights.get(row.key, row.weights)
        ]
        # All outcomes without a row go: a killed process may have left them behind. So do rows without outcomes.
        held = {(row.set, row.name, row.severity, row.key) for row in self.rows}
        there: set[tuple[str, str, int | None, Key]] = set()
        for path in _outcome_files(self.run):
            try:
                found = {(place, key): values for place, key, values in _read_outcomes(path)}
            except DataError:  # damaged: they are made again
                path.unlink()
                continue
            kept = {of: values for of, values in found.items() if (*of[0][:3], of[1]) in held}
            there |= {(*place[:3], key) for place, key in kept}
            if len(kept) < len(found):
                _write_outcomes(path, kept)
        self.rows = [row for row in self.rows if (row.set, row.name, row.severity, row.key) in there]
        if len(self.rows) < before:
            self.save()
        return before - len(self.rows)

    def missing(self, unit: "Unit", images: str, weights: Mapping[Key, str]) -> list[Key]:
        """The models, those of `weights`, that lack a row of this unit: on these images, by these weights."""
        known: dict[str, set[Key]] = {name: set() for name in unit.rows}
        for row in self.rows:
            fits = row.set == unit.set and row.images == images and unit.takes(row.precision)
            if fits and row.name in known and row.weights == weights.get(row.key):
                known[row.name].add(row.key)
        return [model for model in weights if not all(model in of_name for of_name in known.values())]

    def add(self, unit: "Unit", scored: Iterable[Scored]) -> None:
        """Take the scores of a unit. Outcomes are on disk before the rows that say that they are there."""
        scored = list(scored)
        _add_outcomes(self.run / OUTCOMES / unit.set / f"{unit.name}.parquet", scored)
        fresh = {(one.row.key, one.row.set, one.row.name, one.row.severity) for one in scored}
        self.rows = [row for row in self.rows if (row.key, row.set, row.name, row.severity) not in fresh]
        self.rows += [one.row for one in scored]
        if time.monotonic() - self._saved > SAVE_S:
            self.save()

    def save(self) -> None:
        """Write robustness.parquet, whole or not at all."""
        types = {"severity": "Int64", "errors": "Int64", "adapted_errors": "Int64", "seed": "int64", "n": "int64"}
        types |= dict.fromkeys(_MEASURED, "float64")
        table = pd.DataFrame([dataclasses.asdict(row) for row in self.rows], columns=_COLUMNS).astype(types)
        write_table(self.run / RESULTS, pa.Table.from_pandas(table, preserve_index=False))
        self._saved = time.monotonic()


def read_rows(run: Path) -> tuple[Row, ...] | None:
    """The rows of robustness.parquet, None where there is none. Raises DataError for a damaged one."""
    path = run / RESULTS
    if not path.exists():
        return None
    found = []
    for row in _table(path, _COLUMNS[:-1]).to_pylist():  # weights: not in files of earlier versions
        values: dict[str, Any] = dict(row)
        values |= {name: _whole_number(row[name]) for name in ("severity", "errors", "adapted_errors")}
        values |= {name: row[name] if _is_finite(row[name]) else None for name in _MEASURED}
        found.append(Row(**{name: values[name] for name in _COLUMNS if name in values}))
    return tuple(found) or None


def read_outcomes(run: Path) -> Outcomes:
    """All outcomes of a run; empty where nothing was scored. Raises DataError for a damaged file."""
    found: Outcomes = {}
    for path in _outcome_files(run):
        for place, key, values in _read_outcomes(path):
            found.setdefault(place, {})[key] = values
    return found


_COLUMNS = [field.name for field in dataclasses.fields(Row)]
_MEASURED = _COLUMNS[_COLUMNS.index("loss") : _COLUMNS.index("images")]
_OUTCOME_COLUMNS = ["model", "seed", "set", "name", "severity", "kind", "values"]


def _outcome_files(run: Path) -> list[Path]:
    return sorted((run / OUTCOMES).glob("*/*.parquet"))


def _add_outcomes(path: Path, scored: list[Scored]) -> None:
    """Beside those of other trainings that the file holds already."""
    held = {(place, key): values for place, key, values in _read_outcomes(path)} if path.exists() else {}
    for one in scored:
        row = one.row
        for kind, values in one.outcomes.items():
            held[(row.set, row.name, row.severity, kind), row.key] = values.astype(np.float32)
    _write_outcomes(path, held)


def _write_outcomes(path: Path, held: Mapping[tuple[Place, Key], np.ndarray]) -> None:
    if not held:
        path.unlink(missing_ok=True)
        return
    columns = {
        "model": [key[0] for _, key in held],
        "seed": [key[1] for _, key in held],
        "set": [place[0] for place, _ in held],
        "name": [place[1] for place, _ in held],
        "severity": pa.array([place[2] for place, _ in held], pa.int64()),
        "kind": [place[3] for place, _ in held],
        "values": pa.array(list(held.values()), pa.list_(pa.float32())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, pa.table(columns), compression="zstd")


def _read_outcomes(path: Path) -> Iterator[tuple[Place, Key, np.ndarray]]:
    table = _table(path, _OUTCOME_COLUMNS)
    columns = [table.column(name) for name in _OUTCOME_COLUMNS]
    for model, seed, of, name, severity, kind, values in zip(*columns, strict=True):
        place = (of.as_py(), name.as_py(), severity.as_py(), kind.as_py())
        yield place, (model.as_py(), seed.as_py()), values.values.to_numpy(zero_copy_only=False)


def _table(path: Path, columns: list[str]) -> pa.Table:
    run = path.parent if path.name == RESULTS else path.parents[2]  # outcomes/SET/NAME.parquet
    mend = f"Remove it, then run: {command('score', run)}"
    table = read_table(path, mend)
    if lacking := [name for name in columns if name not in table.column_names]:
        raise DataError(f"{path}: has no column {lacking[0]}; it is of another version. {mend}")
    return table


def _whole_number(value: Any) -> int | None:
    return int(value) if _is_finite(value) else None


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
