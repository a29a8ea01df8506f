"""trials.parquet: the study as a table, one row per trial. Derived; made again at any time."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from raycnn.run_files import read_manifest, read_spec
from raycnn.search.journal import FINISHED, read_trials
from raycnn.spec.space import active, parameters
from raycnn.tables import write_table


def write_trials(run: Path) -> Path:
    """Write trials.parquet: number, kind, state, reason, objectives (last measured), param:<name>, what was spent, and
    the metrics of repeats as JSON."""
    path = run / "trials.parquet"
    write_table(path, pa.Table.from_pandas(trials_table(run)))
    return path


def trials_table(run: Path) -> pd.DataFrame:
    """The finished trials of a run directory."""
    spec = read_spec(run)
    names = [named.name for named in parameters(spec.space)]
    cpus, gpus = _held_by_a_trial(run)
    rows: list[dict[str, Any]] = []
    for trial in read_trials(run):
        if trial.state not in FINISHED:
            continue
        known = trial.user_attrs
        taken = active(spec.space, trial.params)
        resolved = json.loads(known.get("spec", "{}"))
        rows.append(
            {
                "number": trial.number,
                "kind": known.get("kind", "search"),
                "state": trial.state.name,
                "reason": known.get("reason"),
                **{objective: known.get("metrics", {}).get(objective) for objective in spec.search.objectives},
                **{f"param:{name}": taken.get(name) for name in names},
                "epochs": known.get("epochs", 0),
                "images": known.get("images", 0),
                "seconds": (seconds := float(known.get("seconds", 0.0))),
                "cpu_hours": cpus * seconds / 3600,
                "gpu_hours": gpus * seconds / 3600,
                "started": trial.datetime_start,
                "finished": trial.datetime_complete,
                "seed": resolved.get("seed", 0),
                "repeats": json.dumps(known["repeats"]) if "repeats" in known else None,
            }
        )
    table = pd.DataFrame(rows)
    for objective in spec.search.objectives:
        with contextlib.suppress(KeyError):
            table[objective] = table[objective].astype("float64")
    return table


def _held_by_a_trial(run: Path) -> tuple[float, float]:
    """CPUs and GPUs of a slot, as the manifest has them; 0 where there is none."""
    tree = read_manifest(run)
    workers = tree.get("workers") or 0
    return workers * float(tree.get("threads") or 0), workers * float(tree.get("gpus_per_worker") or 0)
