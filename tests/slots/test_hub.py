"""The hub by itself, without Ray: what it decides."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raycnn.slots.hub import Hub
from raycnn.slots.messages import Ended, Outcome, Task


def deciding(story: Callable[[Hub], Awaitable[Any]], slots: int = 2, **options: Any) -> Any:
    """What `story` gives on a hub with so many slots of one rank, all ready."""

    async def told() -> Any:
        hub = Hub(1, 600.0, None, **options)
        for slot in range(slots):
            await hub.add_slot(slot)
            assert await hub.join(slot, f"group-{slot}", 0, None, "here")
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
