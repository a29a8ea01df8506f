"""A trial of a search, trained again from what its run directory says, and held against what it was."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import DataError, SpecError
from raycnn.run_files import MANIFEST, read_manifest, read_spec
from raycnn.search.images import data_root, search_images
from raycnn.search.journal import JOURNAL, TRIALS, lost_trials, read_trials
from raycnn.search.rundir import same_images
from raycnn.search.scheduler import rung_epochs
from raycnn.spec.trial import TrialSpec


@dataclass(frozen=True, slots=True)
class Reproduction:
    """epochs: as many as the trial had. alike: of those, how many have equal metrics and loss, bit for bit.

    largest: the largest difference of an error, a fraction of 1.
    """

    epochs: int
    alike: int
    largest: float
    differences: tuple[str, ...]


def reproduce(run: Path, number: int, place: str | None, say: Callable[[str], None]) -> Reproduction:
    """Train trial `number` of a run again in this process, for as many epochs as it had, and compare each epoch.

    place: directory or URI of the data, as `data_root` has it.
    The new training leaves nothing behind. Raises SpecError, DataError where the run, the trial or the images
    are not what they were.
    """
    import torch

    from raycnn.training.log import EpochRecord
    from raycnn.training.loop import train
    from raycnn.training.resident import training_data

    spec = read_spec(run)
    training, before = _trial(run, number)
    manifest = read_manifest(run)
    images = search_images(spec, data_root(run, spec, place), run)
    same_images(run, images.facts())
    if not manifest:
        say(f"{run / MANIFEST} is missing: on which images, with which versions and how many threads is not known")
    _say_what_differs(manifest, say)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = manifest.get("threads")
    if threads:
        torch.set_num_threads(max(1, round(threads)))
    corrupted = None if images.corrupted is None else _mapped(images.corrupted)
    data = training_data(images.data, images.split.train, images.split.validation, corrupted, device)
    differences: list[str] = []
    alike, largest = 0, 0.0

    class Enough(Exception):
        pass

    def on_epoch(record: EpochRecord) -> None:
        nonlocal alike, largest
        was = before[record.epoch]
        now = {"train_loss": record.train_loss, **record.metrics}
        gaps = {name: abs(value - was[name]) for name, value in now.items() if name in was}
        errors = [gap for name, gap in gaps.items() if name.endswith("_error")]
        largest = max([largest, *errors])
        if any(gaps.values()):
            words = ", ".join(f"{name} {was[name]:.6g} and now {now[name]:.6g}" for name, gap in gaps.items() if gap)
            differences.append(f"epoch {record.epoch}: {words}")
        alike += not any(gaps.values())
        error = record.metrics["val/clean_error"]
        told = "as it was" if not any(gaps.values()) else f"was {100 * was['val/clean_error']:.2f} %"
        say(f"epoch {record.epoch}/{len(before)}  validation error {100 * error:.2f} %  {told}")
        if record.epoch == len(before):
            raise Enough

    with contextlib.suppress(Enough):
        train(training, data, device, corruption_epochs=frozenset(rung_epochs(spec)), on_epoch=on_epoch, note=say)
    return Reproduction(len(before), alike, largest, tuple(differences))


def _trial(run: Path, number: int) -> tuple[TrialSpec, dict[int, dict[str, float]]]:
    """What was trained, and what it gave in each epoch."""
    found = next((trial for trial in read_trials(run) if trial.number == number), None)
    if found is None or "spec" not in found.user_attrs:
        if run / TRIALS / str(number) in lost_trials(run):
            raise DataError(
                f"{run / JOURNAL}: does not know trial {number}, which was trained: its end is lost. Restore it from a "
                "copy."
            )
        raise SpecError(f"{run}: has no trial {number}. Choose one from trials.parquet.")
    from raycnn.training.log import read_records

    log = run / TRIALS / str(number) / "metrics.jsonl"
    if not log.exists():
        raise DataError(f"{log}: is missing, so there is nothing to hold a new training against.")
    records = read_records(log)
    before = {
        record["epoch"]: {"train_loss": record.get("train_loss", math.nan), **record["metrics"]}
        for record in records
        if "metrics" in record
    }
    most = max(len(before), found.user_attrs.get("epochs", 1))
    if sorted(before) != list(range(1, most + 1)):
        raise DataError(f"{log}: lacks epochs. Choose another trial.")
    return TrialSpec.model_validate_json(found.user_attrs["spec"]), before


def _say_what_differs(manifest: dict[str, Any], say: Callable[[str], None]) -> None:
    from importlib.metadata import version

    for name in ("torch", "numpy"):
        if manifest.get(name) not in (None, version(name)):
            say(f"{name} was {manifest[name]} and is {version(name)}")
    if manifest.get("workers", 1) > 1:
        say(f"it was trained by {manifest['workers']} workers and is now by one: sums will be rounded otherwise")


def _mapped(path: Path) -> Any:
    import numpy as np

    return np.load(path, mmap_mode="r", allow_pickle=False)
