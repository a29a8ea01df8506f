"""Trainings on a node that does not share the head's disk: as if there were two machines, for the mark is not there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_slot_trainings import SEARCH, SGD

from raycnn.slots import client
from raycnn.slots.messages import Outcome, Task
from raycnn.spec.reading import trial_spec

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in a process that we share with it


@pytest.fixture
def files(ray_here: Any, tmp_path: Path) -> Any:
    """The head's files, for a node that has not got them."""
    from raycnn.search.head_files import serve_head_files
    from raycnn.search.rundir import held

    with held(tmp_path):
        pass
    return replace(serve_head_files(tmp_path), word="of another machine")


def training(directory: Path) -> Any:
    from raycnn.search.worker import Training

    return Training(trial_spec(SEARCH, {"optimizer": SGD}, seed=1), directory, 0.0, frozenset())


def pool(directory: Path, files: Any, slots: int = 1, **options: Any) -> Any:
    from raycnn.search.images import search_images
    from raycnn.search.worker import WORKLOAD
    from raycnn.slots.pool import SlotPool, SlotShape

    made = SlotPool(WORKLOAD, SlotShape(cpus=0.9), directory / "slots", **options)
    made.grow(slots)
    made.post(search_images(SEARCH, None, directory).preparation(1.0, files))
    return made


def test_the_head_has_checkpoint_and_log_and_a_training_goes_on_from_them(files, tmp_path):
    directory = tmp_path / "trials" / "0"
    seen: list[int] = []
    with pool(tmp_path, files) as slot:
        task = Task("t", training(directory))
        assert client.run(slot.hub, task, lambda report: seen.append(report.step)) == Outcome("done")
        assert sorted(path.name for path in directory.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]
        assert len((directory / "metrics.jsonl").read_text().splitlines()) == 2
        assert client.run(slot.hub, task, lambda report: seen.append(report.step)) == Outcome("done")
    assert seen == [1, 2, 2], "the second time, only the last record of the checkpoint is told"
    assert [json.loads(line)["epoch"] for line in (directory / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_head_that_cannot_write_fails_the_training_and_not_the_node(files, tmp_path):
    (tmp_path / "no directory").touch()
    lost: list[str] = []
    with pool(tmp_path, files, on_news=lost.append) as slot:
        outcome = client.run(slot.hub, Task("t", training(tmp_path / "no directory" / "0")))
    assert outcome.status == "failed"
    assert "checkpoint.pt: cannot be written by the head (Not a directory). Free space there." in outcome.reason
    assert lost == []


def test_a_node_with_a_full_disk_gives_its_task_to_another(ray_here, tmp_path):
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    news: list[str] = []
    with SlotPool(WORKLOAD, SlotShape(cpus=0.4), tmp_path, on_news=news.append) as slots:
        slots.grow(2)
        slots.post("ready")
        task = Task("t", {"directory": str(tmp_path / "t"), "fault": {"at": 2, "rank": None, "how": "full"}})
        assert client.run(slots.hub, task) == Outcome("done")
        again = Task("u", {"directory": str(tmp_path / "u")})
        assert client.run(slots.hub, again) == Outcome("done")
    assert [line.partition(" ")[2].partition(" ")[2] for line in news] == ["rests: the disk is full"]


def test_when_every_node_is_full_the_tasks_stop_with_the_reason(ray_here, tmp_path):
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    with SlotPool(WORKLOAD, SlotShape(cpus=0.4), tmp_path) as slots:
        slots.grow(1)
        slots.post("ready")
        task = Task("t", {"directory": str(tmp_path / "t"), "fault": {"at": 2, "rank": None, "how": "full"}})
        assert client.run(slots.hub, task) == Outcome("stopped", "the disk is full")


def test_a_slot_that_waits_for_resources_is_called_back(ray_here, tmp_path):
    import time

    from ray.util import placement_group_table
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    def groups() -> list[str]:
        return sorted(group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED")

    lost: list[str] = []
    with SlotPool(WORKLOAD, SlotShape(cpus=1.5), tmp_path, on_news=lost.append) as slots:
        slots.grow(2)  # of which one fits
        slots.post("ready")
        deadline = time.monotonic() + 240
        while ray_here.get(slots.hub.ready_slots.remote()) < 1 or groups() != ["CREATED", "PENDING"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        slots.retire_idle(1)
        while groups() != ["CREATED"]:  # what the other had asked for is not asked for any more
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.run(slots.hub, Task("u", {"directory": str(tmp_path / "u")})) == Outcome("done")
        began = time.monotonic()
    assert lost == []
    assert time.monotonic() - began < 30


def test_idle_slots_leave_and_the_last_ones_serve_on(ray_here, tmp_path):
    import time

    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    lost: list[str] = []
    with SlotPool(WORKLOAD, SlotShape(cpus=0.4), tmp_path, on_news=lost.append) as slots:
        slots.grow(2)
        slots.post("ready")
        deadline = time.monotonic() + 240
        while ray_here.get(slots.hub.ready_slots.remote()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        slots.retire_idle(1)
        deadline = time.monotonic() + 120
        while ray_here.get(slots.hub.ready_slots.remote()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.run(slots.hub, Task("u", {"directory": str(tmp_path / "u")})) == Outcome("done")
    assert lost == []
