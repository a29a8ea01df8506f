"""A run directory, read: `read_run`. Files that are not there yet are None or empty; nothing is computed here."""

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from raycnn.invocation import command
from raycnn.reporting.words import short_parameters
from raycnn.robustness.corruptions import VALIDATION_CORRUPTIONS
from raycnn.robustness.results import Outcomes, Row, read_outcomes, read_rows
from raycnn.run_files import read_manifest, read_spec
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import IntRange, Options, Parameter, parameters
from raycnn.tables import read_table
from raycnn.training.log import read_records


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial. objectives: last measured errors, fractions in [0, 1]. parameters: of the branches taken.

    repeats: the last metrics of each training, where there were several; objectives are then their means.
    """

    number: int
    kind: str
    state: str
    reason: str
    objectives: Mapping[str, float | None]
    parameters: Mapping[str, float | int | str]
    epochs: int
    images: int
    seconds: float
    started: datetime | None
    finished: datetime | None
    seed: int
    repeats: tuple[Mapping[str, float], ...] = ()
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0

    @property
    def name(self) -> str:
        """As in finals: "baseline" or "trial-007"."""
        return "baseline" if self.kind == "baseline" else f"trial-{self.number:03d}"

    @property
    def summary(self) -> str:
        """Its parameters on one line."""
        return "untuned baseline" if self.kind == "baseline" else short_parameters(self.parameters)


@dataclass(frozen=True, slots=True)
class Curve:
    """A training, epoch by epoch. metrics: (epoch, value) pairs, for a metric may be measured at some epochs only."""

    epochs: tuple[int, ...]
    train_loss: tuple[float, ...]
    metrics: Mapping[str, tuple[tuple[int, float], ...]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """How the run came about. Everything may be missing. data_verified: whether the data are the official files.

    duplicates: a line for each kind of images with the same pixels. benchmarks: where the files of each came from.
    """

    versions: Mapping[str, str]
    hardware: str
    data: Mapping[str, str]
    data_directory: Path | None
    data_verified: bool | None
    classes: tuple[str, ...]
    duplicates: tuple[str, ...]
    slots: int | None
    workers: int | None
    started: datetime | None
    finished: datetime | None
    benchmarks: Mapping[str, str]
    seeds: Mapping[str, str]
    command: str
    git: str


@dataclass(frozen=True, slots=True)
class Run:
    """rows: None where nothing was scored yet. finals: (model, seed directory) -> training."""

    directory: Path
    spec: SearchSpec
    manifest: Manifest
    trials: tuple[Trial, ...]
    curves: Mapping[int, Curve]
    finals: Mapping[tuple[str, str], Curve]
    rows: tuple[Row, ...] | None
    outcomes: Outcomes

    @property
    def objectives(self) -> list[str]:
        return list(self.spec.search.objectives)

    @property
    def tuned_on(self) -> tuple[str, ...]:
        """The corruptions that the search has looked at."""
        return VALIDATION_CORRUPTIONS if "val/corruption_error" in self.objectives else ()

    @property
    def unofficial(self) -> bool:
        """Whether a copy of CIFAR was used whose checksums were not compared."""
        verified = self.manifest.data_verified
        return self.spec.data.name.startswith("cifar") and not (self.spec.data.verify if verified is None else verified)

    def of_state(self, state: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == state]


def read_run(directory: Path) -> Run:
    """Read a run directory. Raises SpecError or DataError for files that are missing or damaged."""
    spec = read_spec(directory)
    return Run(
        directory=directory,
        spec=spec,
        manifest=_manifest(directory),
        trials=_trials(directory / "trials.parquet", spec),
        curves=_trial_curves(directory / "trials"),
        finals={
            (path.parent.parent.name, path.parent.name): read_curve(path)
            for path in sorted((directory / "finals").glob("*/seed-*/metrics.jsonl"))
        },
        rows=read_rows(directory),
        outcomes=read_outcomes(directory),
    )


def read_curve(path: Path) -> Curve:
    """A metrics.jsonl. Of an epoch that was trained again after a crash the last record counts; lines that are torn or
    damaged do not."""
    records = {record["epoch"]: record for record in read_records(path)}
    epochs = tuple(sorted(records))
    metrics: dict[str, list[tuple[int, float]]] = {}
    for epoch in epochs:
        for name, value in (records[epoch].get("metrics") or {}).items():
            if (number := _finite(value)) is not None:
                metrics.setdefault(name, []).append((epoch, number))
    losses = tuple(_finite(records[epoch].get("train_loss")) or math.nan for epoch in epochs)
    return Curve(epochs, losses, {name: tuple(points) for name, points in metrics.items()})


def _trial_curves(directory: Path) -> dict[int, Curve]:
    paths = (path for path in directory.glob("*/metrics.jsonl") if path.parent.name.isdigit())
    return {int(path.parent.name): read_curve(path) for path in sorted(paths)}


def _trials(path: Path, spec: SearchSpec) -> tuple[Trial, ...]:
    if not path.exists():
        return ()
    # A column with gaps may hold whole numbers as floats.
    whole = {f"param:{named.name}" for named in parameters(spec.space) if _is_whole(named.parameter)}
    trials = [
        Trial(
            number=row["number"],
            kind=row["kind"],
            state=row["state"],
            reason=row.get("reason") or "",
            objectives={name: _finite(row.get(name)) for name in spec.search.objectives},
            parameters={
                name.removeprefix("param:"): int(value) if name in whole else value
                for name, value in row.items()
                if name.startswith("param:") and value is not None and value == value
            },
            epochs=row["epochs"],
            images=row["images"],
            seconds=row["seconds"],
            started=row.get("started"),
            finished=row.get("finished"),
            seed=row["seed"],
            cpu_hours=row.get("cpu_hours") or 0.0,
            gpu_hours=row.get("gpu_hours") or 0.0,
            repeats=tuple(json.loads(row["repeats"])) if row.get("repeats") else (),
        )
        for row in read_table(path, f"Make it again: {command('report', path.parent)}").to_pylist()
    ]
    return tuple(sorted(trials, key=lambda trial: trial.number))


def _is_whole(form: Parameter) -> bool:
    if isinstance(form, Options):
        return all(type(option) is int for option in form.choice)
    return isinstance(form, IntRange)


def _manifest(run: Path) -> Manifest:
    tree = read_manifest(run)
    data, hardware, git = (tree.get(key) or {} for key in ("data", "hardware", "git"))
    versions = {name: str(tree[name]) for name in ("raycnn", "python", "torch", "ray", "optuna") if tree.get(name)}
    directory = data.get("directory")
    return Manifest(
        versions=versions,
        hardware=_hardware(hardware),
        data={key: str(value) for key, value in data.items() if value is not None},
        data_directory=Path(directory) if directory else None,
        data_verified=data.get("verified"),
        classes=tuple(data.get("classes") or ()),
        duplicates=tuple(data.get("duplicates") or ()),
        slots=tree.get("slots"),
        workers=tree.get("workers"),
        started=_time(tree.get("started")),
        finished=_time(tree.get("finished")),
        benchmarks={name: str(words) for name, words in (tree.get("benchmarks") or {}).items()},
        seeds={name: str(seed) for name, seed in (tree.get("seeds") or {}).items()},
        command=tree.get("command") or "",
        git=f"{git['commit'][:12]}{', with changes' if git.get('dirty') else ''}" if git.get("commit") else "",
    )


def _hardware(facts: dict[str, Any]) -> str:
    nodes = facts.get("nodes")
    count = len(nodes) if isinstance(nodes, list) else nodes
    words = [
        facts.get("cpu"),
        *(facts.get("gpus") or []),
        f"{count} node{'s' if count != 1 else ''}" if count else None,
    ]
    return ", ".join(str(word) for word in words if word)


def _time(text: Any) -> datetime | None:
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(text)
    return None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
