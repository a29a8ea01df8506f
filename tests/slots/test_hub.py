"""The hub by itself, without Ray: what it decides."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raycnn.slots.hub import Hub
from raycnn.slots.messages import Ended, Outcome, Task


def deciding(story: Callable[[Hub], Awaitable[Any]], slots: int = 2, places: str = "aaaa") -> Any:
    """What `story` gives on a hub with so many slots of one rank, all ready; places: the GPU of each."""

    async def told() -> Any:
        hub = Hub(1, 600.0, None)
        for slot in range(slots):
            await hub.add_slot(slot)
            assert await hub.join(slot, f"group-{slot}", 0, None, "here", places[slot])
        return await asyncio.wait_for(story(hub), 20)

    return asyncio.run(told())


async def begins(hub: Hub, slot: int, last: int = 0) -> Any:
    """The assignment that a slot gets; None where it gets none now."""
    try:
        return await asyncio.wait_for(hub.next(slot, f"group-{slot}", 0, last), 0.2)
    except TimeoutError:
        return None


async def ends(hub: Hub, slot: int, status: Any, reason: str = "") -> bool:
    return await hub.end(slot, f"group-{slot}", 0, Ended(status, reason, 0, 0.0))


def test_a_disk_that_all_share_ends_all_tasks_with_the_reason_and_blames_none():
    async def story(hub: Hub) -> list[Any]:
        numbers = [await hub.submit(Task(f"trial-{index}", None, retries=0)) for index in range(3)]
        assert await begins(hub, 0)
        assert await begins(hub, 1)
        await ends(hub, 0, "unfit everywhere", "the disk is full")
        later = await hub.submit(Task("later", None))
        return [(await hub.pull(number, 0))[-1] for number in [*numbers, later]]

    assert deciding(story) == [Outcome("stopped", "the disk is full")] * 4


def test_a_task_that_meets_more_unfit_nodes_than_it_has_retries_goes_on_elsewhere():
    async def story(hub: Hub) -> Any:
        number = await hub.submit(Task("trial", None, retries=0))
        for slot in range(3):
            assert await begins(hub, slot)
            await ends(hub, slot, "unfit", f"node {slot} is full")
        assert await begins(hub, 3)
        await ends(hub, 3, "done")
        return (await hub.pull(number, 0))[-1]

    assert deciding(story, slots=4) == Outcome("done")


def test_a_task_that_ran_out_of_memory_is_tried_once_more_while_nothing_else_runs_on_its_gpu():
    async def story(hub: Hub) -> Any:
        large = await hub.submit(Task("large", None, retries=0))
        await hub.submit(Task("small", None))
        first, _ = await begins(hub, 0), await begins(hub, 1)
        assert not first.alone
        waiting = await hub.submit(Task("waiting", None))
        await ends(hub, 0, "out of memory", "OutOfMemoryError: so large")
        assert await begins(hub, 0, first.key) is None, "the neighbour is busy, and no other task may come between"
        await ends(hub, 1, "done")
        again = await begins(hub, 0, first.key) or await begins(hub, 1, first.key + 1)
        assert (again.task.name, again.alone) == ("large", True)
        free = 1 if hub.slots[0].ticket else 0
        assert hub.slots[free].ticket is None, "its neighbour waits for it"
        await ends(hub, 1 - free, "out of memory", "OutOfMemoryError: so large")
        assert (await hub.pull(large, 0))[-1] == Outcome("failed", "OutOfMemoryError: so large")
        assert [s.ticket.task.name for s in hub.slots.values() if s.ticket] == ["waiting"]
        assert (await hub.take_news()) == [
            "large ran out of memory, and is tried again alone: OutOfMemoryError: so large"
        ]
        return waiting

    deciding(story)


def test_slots_of_another_gpu_work_on_while_a_task_waits_to_run_alone():
    async def story(hub: Hub) -> Any:
        for name in ("large", "small", "other"):
            await hub.submit(Task(name, None))
        first = await begins(hub, 0)
        assert await begins(hub, 1)
        far = await begins(hub, 2)
        await hub.submit(Task("further", None))
        await ends(hub, 0, "out of memory", "OutOfMemoryError")
        assert await begins(hub, 0, first.key) is None
        await ends(hub, 2, "done")
        return [(await begins(hub, 2, far.key)).task.name, hub.slots[0].ticket]

    name, ticket = deciding(story, slots=3, places="aab")
    assert name == "large", "nothing else runs on that GPU"
    assert ticket is not None, "and so the others go on on the first"
    assert ticket.task.name == "further"
