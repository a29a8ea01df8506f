"""The hub's decisions about groups that do not start, without Ray."""

import asyncio
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from raycnn.slots import hub as hub_module
from raycnn.slots.hub import Hub
from raycnn.slots.messages import Ended, Outcome, Task


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workers that the hub has killed."""
    found: list[str] = []
    monkeypatch.setattr(hub_module.ray, "kill", found.append)
    return found


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The hub's clock is so much later, and asyncio's is not."""
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds, time=time.time)
    monkeypatch.setattr(hub_module, "time", clock)


async def ready(hub: Hub, generation: str, slot: int = 0) -> "list[asyncio.Task[Any]]":
    """A new group of the slot, until all its ranks wait for a task."""
    asked = []
    for rank in range(hub.size):
        assert await hub.join(slot, generation, rank, f"{generation}-{rank}", "here")
        asked.append(asyncio.create_task(hub.next(slot, generation, rank, 0)))
    await asyncio.sleep(0)
    return asked


def test_a_slot_leaves_after_three_starts_that_failed_and_its_tasks_stop_with_the_reason(killed: list[str]):
    async def story() -> None:
        hub = Hub(1, 600, None)
        await hub.add_slot(0)
        ticket = await hub.submit(Task("t", None))
        for generation, again in (("a", True), ("b", True), ("c", False)):
            assert await hub.join(0, generation, 0, generation, "here")
            await hub.cannot_start(0, generation, "no port")
            assert await hub.group_gone(0, "what Ray says of it") is again
        await hub.slot_gone(0, "anything")
        assert await hub.pull(ticket, 0) == [Outcome("stopped", "no port")]
        assert await hub.take_news() == [
            "slot 0 did not start, 1 of 3 tries: no port",
            "slot 0 did not start, 2 of 3 tries: no port",
            "slot 0 is gone: no port",
        ]

    run(story())


def test_starts_that_failed_are_forgotten_when_one_succeeds(killed: list[str]):
    async def story() -> None:
        hub = Hub(1, 600, None)
        await hub.add_slot(0)
        for generation in "abcdef":
            assert await hub.group_gone(0, "no port")
            await ready(hub, generation)
            assert await hub.group_gone(0, "a worker died")
        assert not [line for line in await hub.take_news() if "2 of 3" in line]

    run(story())


def test_a_start_that_can_never_succeed_ends_the_slot_at_once_and_frees_its_peers(killed: list[str]):
    async def story() -> None:
        hub = Hub(2, 600, None)
        await hub.add_slot(0)
        ticket = await hub.submit(Task("t", None))
        for rank in (0, 1):
            await hub.join(0, "a", rank, f"worker {rank}", "here")
        await hub.cannot_start(0, "a", "the driver is too old", for_good=True)
        assert killed == ["worker 0", "worker 1"], "the other would wait for it in the first all-reduce"
        assert not await hub.group_gone(0, "its workers died")
        await hub.slot_gone(0, "its workers died")
        assert await hub.pull(ticket, 0) == [Outcome("stopped", "the driver is too old")]

    run(story())


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (None, "rank 1 of 2: its process took more than 120 s"),
        ("starting", "rank 1 of 2 on there: PyTorch and the GPU took more than 120 s"),
        ("forming", "rank 1 of 2 on there: the process group and its first all-reduce took more than 120 s"),
        ("preparing", "rank 1 of 2 on there: the data took more than 600 s"),
    ],
)
def test_a_rank_that_hangs_while_it_starts_is_named_with_what_it_hangs_in(
    killed: list[str], monkeypatch: pytest.MonkeyPatch, phase: Any, words: str
):
    async def story() -> None:
        monkeypatch.setattr(hub_module, "GRACE_S", 0.0)
        hub = Hub(2, 600, None, lease_s=0.08)  # looks a hundred times a second
        await hub.add_slot(0)
        looking = asyncio.create_task(hub.look_after())
        await hub.join(0, "a", 0, "worker 0", "here")
        await hub.begins(0, "a", 0, "formed")  # it waits for the driver, as long as that takes
        if phase:
            await hub.join(0, "a", 1, "worker 1", "there")
            await hub.begins(0, "a", 1, phase)
        await asyncio.sleep(0.1)
        assert killed == []
        later(monkeypatch, 601)
        while not killed:
            await asyncio.sleep(0.01)
        assert await hub.group_gone(0, "worker 1 was killed")
        assert await hub.take_news() == [f"slot 0 did not start, 1 of 3 tries: {words}"]
        await hub.close()
        await looking

    run(story())


def test_a_rank_that_is_slow_to_start_is_told_once_within_a_minute(killed: list[str], monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        hub = Hub(2, 600, None, lease_s=0.08)
        await hub.add_slot(0)
        looking = asyncio.create_task(hub.look_after())
        for rank in (0, 1):
            await hub.join(0, "a", rank, "worker", "there")
            await hub.begins(0, "a", rank, "forming")
        later(monkeypatch, 50)
        slow = "rank 0 of 2 on there: the process group and its first all-reduce takes more than 45 s, of 150 s"
        assert await hub.take_news() == [f"slot 0 is slow to start: {slow}"]
        await asyncio.sleep(0.1)
        assert hub.news == killed == []
        await hub.close()
        await looking

    run(story())


def test_a_task_waits_for_a_slot_that_has_started_and_loses_no_try_on_one_that_does_not(killed: list[str]):
    async def story() -> None:
        hub = Hub(2, 600, None)
        await hub.add_slot(0)
        await hub.submit(Task("t", None, retries=0))
        for rank in (0, 1):
            await hub.join(0, "a", rank, "worker", "here")
        assert await hub.group_gone(0, "no port")
        first, second = await ready(hub, "b")
        assert (await first).task.name == (await second).task.name == "t"

    run(story())


def test_a_task_whose_workers_died_goes_on_at_once_on_another_slot(killed: list[str]):
    async def story() -> None:
        hub = Hub(1, 600, None)
        for slot in (0, 1):
            await hub.add_slot(slot)
        ticket = await hub.submit(Task("t", None, retries=1))
        (first,) = await ready(hub, "a", slot=0)
        assert (await first).task.name == "t"
        (second,) = await ready(hub, "b", slot=1)
        assert await hub.group_gone(0, "out of memory")
        assert (await second).task.name == "t"
        assert await hub.group_gone(1, "out of memory")
        assert await hub.pull(ticket, 0) == [Outcome("failed", "its workers died 2 times, at last: out of memory")]
        assert (await hub.take_news())[0] == "slot 0 lost its workers and starts others: out of memory"

    run(story())


def test_a_task_after_which_a_process_cannot_be_used_fails_once_and_the_group_goes(killed: list[str]):
    async def story() -> None:
        hub = Hub(1, 600, None)
        await hub.add_slot(0)
        ticket = await hub.submit(Task("t", None))
        (asked,) = await ready(hub, "a")
        await asked
        assert not await hub.end(
            0, "a", 0, Ended("failed", "CUDA error: an illegal memory access", 3, 1.0, usable=False)
        )
        assert killed == ["a-0"]
        assert await hub.group_gone(0, "a worker was killed")
        assert await hub.pull(ticket, 0) == [Outcome("failed", "CUDA error: an illegal memory access")]
        assert hub.news == [], "the task's failure is told, and that the hub killed its workers follows from it"

    run(story())


def test_the_user_hears_what_is_waited_for_where_no_worker_can_be_placed(monkeypatch: pytest.MonkeyPatch):
    async def story() -> None:
        hub = Hub(2, 600, None, lease_s=0.08, needs="2 x 4 CPUs and 1 GPU")
        await hub.add_slot(0)
        looking = asyncio.create_task(hub.look_after())
        later(monkeypatch, 121)
        assert "a slot needs 2 x 4 CPUs and 1 GPU" in (await hub.take_news())[0]
        await asyncio.sleep(0.1)
        await hub.close()
        assert await hub.take_news() == [], "it is said once"
        await looking

    run(story())
