"""Real trainings through slots: nothing of a trial is left for the next one, and two workers do the work of one."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from raycnn.slots import client
from raycnn.slots.messages import Outcome, Task
from raycnn.spec.reading import search_from_text, trial_spec
from raycnn.spec.trial import Adamw, Cutout, Mixup, Optimizer, Regularizers, Rotation, Sgd

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in a process that we share with it

SPACE = """
name: trainings
data: {name: shapes, validation: 200, train_images: 600, test_images: 100}
model: fastnet
budget: {epochs: 2, batch_size: 40}
space: {optimizer: {sgd: {lr: 0.05}}}
"""
SEARCH = search_from_text(SPACE, "SPACE")
SGD = Optimizer(sgd=Sgd(lr=0.05, momentum=0.9, weight_decay=5e-4))
EVERYTHING = Regularizers(cutout=Cutout(size_px=8), mixup=Mixup(alpha=0.5), rotation=Rotation(weight=0.5, views=1))


def pool(directory: Path, workers: int) -> Any:
    from raycnn.search.images import search_images
    from raycnn.search.worker import WORKLOAD
    from raycnn.slots.pool import SlotPool, SlotShape

    made = SlotPool(WORKLOAD, SlotShape(workers=workers, cpus=1.9 / workers), directory / "slots")
    made.grow(1)
    made.post(search_images(SEARCH, None, directory).preparation(1.0, None))
    return made


def train(pool: Any, directory: Path, **values: Any) -> list[dict[str, Any]]:
    """The epoch records of one training on the slot, without its times, nor the check that covers them."""
    from raycnn.search.worker import Training

    spec = trial_spec(SEARCH, {"optimizer": values.pop("optimizer", SGD), **values}, seed=values.pop("seed", 1))
    outcome = client.run(pool.hub, Task(directory.name, Training(spec, directory, 10.0, frozenset()), seed=spec.seed))
    assert outcome == Outcome("done")
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    left_out = ("train_s", "evaluate_s", "check")
    return [{key: value for key, value in record.items() if key not in left_out} for record in records]


def test_same_trial_is_identical_in_a_fresh_slot_and_as_its_tenth(ray_here, tmp_path):
    with pool(tmp_path, workers=1) as slot:
        fresh = train(slot, tmp_path / "first", regularizers=EVERYTHING)
        for index in range(8):
            other = Optimizer(adamw=Adamw(lr=0.001 * (index + 1), weight_decay=0.1)) if index % 2 else SGD
            train(slot, tmp_path / f"between-{index}", optimizer=other, seed=index)
        assert train(slot, tmp_path / "tenth", regularizers=EVERYTHING) == fresh


def test_one_and_two_workers_agree_within_the_noise_of_seeds(ray_here, tmp_path):
    losses: dict[int, list[float]] = {}
    for workers in (1, 2):
        with pool(tmp_path / str(workers), workers) as slot:
            runs = [train(slot, tmp_path / f"{workers}-{seed}", seed=seed) for seed in range(4)]
        losses[workers] = [run[-1]["metrics"]["val/clean_loss"] for run in runs]
    noise = statistics.mean(statistics.stdev(values) for values in losses.values())
    assert losses[1] != losses[2], "two workers normalise each half of a batch by itself"
    assert abs(statistics.mean(losses[1]) - statistics.mean(losses[2])) < 2 * noise, losses
