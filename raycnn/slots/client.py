"""Submit a task to the slots and follow it to its end, from any process of the cluster."""

import threading
from collections.abc import Callable, Generator
from typing import Any

import ray
from ray.exceptions import RayActorError

from raycnn.slots.messages import Outcome, Report, Task
from raycnn.slots.reasons import reason_of

STAY_S = 15.0  # well within a lease


def follow(hub: Any, task: Task) -> Generator[Report | Outcome]:
    """The task's reports as they come, its outcome last. Leaving the iteration early stops the task.

    Where the hub has died nobody can do any task, and that is no fault of this one.
    """
    try:
        yield from _follow(hub, task)
    except RayActorError as error:
        yield Outcome("stopped", f"the process that hands tasks to the slots has died ({reason_of(error)})")


def _follow(hub: Any, task: Task) -> Generator[Report | Outcome]:
    number = ray.get(hub.submit.remote(task))
    cursor, over = 0, False
    left = threading.Event()
    threading.Thread(target=_stay, args=(hub, number, left), daemon=True).start()
    try:
        while not over:
            for message in ray.get(hub.pull.remote(number, cursor)):
                cursor += 1
                over = isinstance(message, Outcome)
                yield message
    finally:
        left.set()
        if not over:
            hub.stop.remote(number)


def _stay(hub: Any, number: int, left: threading.Event) -> None:
    """The hub hears of a submitter that thinks long about a report, as where a driver's terminal was stopped."""
    while not left.wait(STAY_S):
        hub.stay.remote(number)


def run(hub: Any, task: Task, on_report: Callable[[Report], None] = lambda report: None) -> Outcome:
    """The task's outcome; blocks until then."""
    for message in follow(hub, task):
        if isinstance(message, Outcome):
            return message
        on_report(message)
    raise AssertionError("a task ends with an outcome")
