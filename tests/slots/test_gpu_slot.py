"""A slot of one NCCL rank on a GPU: it serves, survives, and its group is built anew."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raycnn.slots import client
from raycnn.slots.messages import Outcome, Report, Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, in a process that we share with it
]
numbers = itertools.count()


@pytest.fixture(scope="module")
def one_gpu(ray_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    shape = SlotShape(workers=1, cpus=1, gpus=1, hang_s=20)
    with SlotPool(WORKLOAD, shape, tmp_path_factory.mktemp("slots"), lease_s=8) as pool:
        pool.grow(1)
        pool.post("ready")
        yield pool


def run(pool: Any, directory: Path, **payload: Any) -> tuple[Outcome, list[Report]]:
    reports: list[Report] = []
    task = Task(f"task-{next(numbers)}", {"directory": str(directory), **payload}, seed=7)
    return client.run(pool.hub, task, reports.append), reports


def test_tasks_run_in_one_nccl_group_from_the_same_state(one_gpu, tmp_path):
    first, second = (run(one_gpu, tmp_path / name)[1] for name in "ab")
    assert [r.content for r in first] == [r.content for r in second]
    assert {r.content["backend"] for r in first} == {"nccl"}


def test_exception_fails_the_task_and_keeps_the_worker(one_gpu, tmp_path):
    before = run(one_gpu, tmp_path / "a")[1][0].content["pid"]
    outcome, _ = run(one_gpu, tmp_path / "b", fault={"at": 2, "rank": None, "how": "raise"})
    assert outcome == Outcome("failed", "RuntimeError: no such luck")
    assert run(one_gpu, tmp_path / "c")[1][0].content["pid"] == before


@pytest.mark.parametrize("how", ["kill", "hang"])
def test_lost_worker_comes_back_with_a_new_group(one_gpu, tmp_path, how):
    before = run(one_gpu, tmp_path / "a")[1][0].content["pid"]
    outcome, reports = run(one_gpu, tmp_path / "b", fault={"at": 2, "rank": 0, "how": how})
    if how == "kill":
        assert outcome == Outcome("done")
        assert [report.step for report in reports] == [0, 1, 2, 3, 4]
    else:
        assert outcome == Outcome("failed", "no progress for 20 s")
    after = run(one_gpu, tmp_path / "c")[1][0].content
    assert after["pid"] != before
    assert after["backend"] == "nccl"
