"""A pool's life: preparing, growing, recycling, closing with nothing left behind."""

import time
from pathlib import Path
from typing import Any

import pytest

from raycnn.slots import client
from raycnn.slots.messages import Outcome, Task

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in a process that we share with it


def test_workers_that_cannot_prepare_end_the_tasks_with_the_reason(ray_here, tmp_path):
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    with SlotPool(WORKLOAD, SlotShape(cpus=0.5), tmp_path) as pool:
        pool.grow(1)
        pool.post("broken")
        outcome = client.run(pool.hub, Task("any", {"directory": str(tmp_path)}))
    assert outcome == Outcome("stopped", "ValueError: the data are gone")


def test_recycled_slot_serves_on_with_fresh_workers(ray_here, tmp_path):
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    pids: list[int] = []
    with SlotPool(WORKLOAD, SlotShape(cpus=0.5, recycle_after=2), tmp_path) as pool:
        pool.grow(1)
        pool.post("ready")
        for index in range(3):
            task = Task(f"t{index}", {"directory": str(tmp_path / str(index)), "steps": 1})
            assert client.run(pool.hub, task, lambda r: pids.append(r.content["pid"])) == Outcome("done")
    assert pids[0] == pids[1] != pids[2]


def test_closed_pool_leaves_no_actor_process_or_placement_group(ray_here, tmp_path):
    from ray.util import placement_group_table
    from ray.util.state import list_actors
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    address = ray_here.get_runtime_context().gcs_address  # or it is looked for, and there may be another Ray
    pids: list[int] = []
    with SlotPool(WORKLOAD, SlotShape(cpus=0.4), tmp_path) as pool:
        pool.grow(2)
        pool.post("ready")
        task = Task("t", {"directory": str(tmp_path / "t"), "steps": 1})
        client.run(pool.hub, task, lambda r: pids.append(r.content["pid"]))

    def left() -> list[str]:
        found = [group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
        actors: list[Any] = list_actors(address, filters=[("state", "=", "ALIVE")])
        names = [actor.class_name for actor in actors]
        found += [name for name in names if "Hub" in name or ("Train" in name and "Autoscaling" not in name)]
        return found + [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]

    # The second slot may have been starting, and notices a little later that it is not wanted.
    deadline = time.monotonic() + 120
    while left() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert pids
    assert left() == []
