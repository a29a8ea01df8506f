"""Warm slots under every fault that a training may meet, on real worker groups. One slot of two gloo ranks."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from raycnn.slots import client
from raycnn.slots.messages import Outcome, Report, Task

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in a process that we share with it

numbers = itertools.count()


def run(pool: Any, directory: Path, **payload: Any) -> tuple[Outcome, list[Report]]:
    reports: list[Report] = []
    task = Task(f"task-{next(numbers)}", {"directory": str(directory), **payload}, seed=7)
    return client.run(pool.hub, task, reports.append), reports


def test_task_reports_each_step_and_ends_done(two_ranks, tmp_path):
    outcome, reports = run(two_ranks, tmp_path)
    assert outcome == Outcome("done")
    assert [report.step for report in reports] == [0, 1, 2, 3, 4]


def test_next_task_runs_in_the_same_processes_from_the_same_state(two_ranks, tmp_path):
    contents = [[r.content for r in run(two_ranks, tmp_path / name)[1]] for name in "abc"]
    pids = [{content.pop("pid") for content in task} for task in contents]
    assert contents[0] == contents[1] == contents[2]
    # Of three, for ranks that leave a task far apart, as on a busy machine, get a new group.
    assert pids[1] in (pids[0], pids[2])


def test_exception_on_all_ranks_fails_the_task_with_its_reason_and_keeps_the_workers(two_ranks, tmp_path):
    before = run(two_ranks, tmp_path / "a")[1][0].content["pid"]
    for attempt in ("once", "again"):  # ranks that leave a task far apart, as on a busy machine, get a new group
        outcome, reports = run(two_ranks, tmp_path / attempt, fault={"at": 2, "rank": None, "how": "raise"})
        assert outcome == Outcome("failed", "RuntimeError: no such luck")
        assert len(reports) == 2
        now = run(two_ranks, tmp_path / f"after-{attempt}")[1][0].content["pid"]
        if now == before:
            break
        before = now
    else:
        pytest.fail("its workers were replaced")


def test_exception_on_one_rank_fails_the_task_and_the_slot_comes_back(two_ranks, tmp_path):
    outcome, reports = run(two_ranks, tmp_path / "a", fault={"at": 2, "rank": 1, "how": "raise"})
    assert outcome == Outcome("failed", "RuntimeError: no such luck")
    assert len(reports) == 2
    assert run(two_ranks, tmp_path / "b")[0] == Outcome("done")


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_rank_resumes_the_task_with_each_step_delivered_once(two_ranks, tmp_path, rank):
    outcome, reports = run(two_ranks, tmp_path, fault={"at": 2, "rank": rank, "how": "kill"})
    assert outcome == Outcome("done")
    assert [report.step for report in reports] == [0, 1, 2, 3, 4]


def test_hanging_task_fails_with_the_reason_and_the_slot_comes_back(two_ranks, tmp_path):
    outcome, _ = run(two_ranks, tmp_path / "a", fault={"at": 2, "rank": 1, "how": "hang"})
    assert outcome == Outcome("failed", "no progress for 20 s")
    assert run(two_ranks, tmp_path / "b")[0] == Outcome("done")


def test_stopped_task_ends_on_all_ranks_at_the_same_step(two_ranks, tmp_path):
    task = Task("to-stop", {"directory": str(tmp_path / "a"), "steps": 1000})
    for message in client.follow(two_ranks.hub, task):
        assert isinstance(message, Report)
        if message.step == 3:
            break
    deadline = time.monotonic() + 10
    last = ""
    while (now := (tmp_path / "a" / "done").read_text()) != last and time.monotonic() < deadline:
        last = now
        time.sleep(0.5)
    assert int(last) <= 5
    assert run(two_ranks, tmp_path / "b")[0] == Outcome("done")


def test_task_submitted_again_replaces_its_orphan_and_goes_on_from_its_checkpoint(two_ranks, tmp_path):
    """What happens when Tune restarts a trial whose own actor was killed."""
    task = Task("orphan", {"directory": str(tmp_path), "steps": 60, "step_s": 0.05})
    orphan = client.follow(two_ranks.hub, task)
    seen = [next(orphan) for _ in range(3)]
    reports: list[Report] = []
    assert client.run(two_ranks.hub, task, reports.append) == Outcome("done")
    assert reports[0].step in range(3, 6), "it began again"
    assert reports[-1].step == 59
    assert len(seen) == 3


def test_abandoned_task_is_stopped_when_its_lease_ends(two_ranks, tmp_path):
    import ray

    task = Task("abandoned", {"directory": str(tmp_path / "a"), "steps": 100_000})
    number = ray.get(two_ranks.hub.submit.remote(task))
    ray.get(two_ranks.hub.pull.remote(number, 0))
    assert run(two_ranks, tmp_path / "b")[0] == Outcome("done")  # waits for the slot
