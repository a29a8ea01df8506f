"""Submit a task to the slots and follow it to its end, from any process of the cluster."""

from collections.abc import Callable, Generator
from typing import Any

import ray

from raycnn.slots.messages import Outcome, Report, Task


def follow(hub: Any, task: Task) -> Generator[Report | Outcome]:
    """The task's reports as they come, its outcome last. Leaving the iteration early stops the task."""
    number = ray.get(hub.submit.remote(task))
    cursor, over = 0, False
    try:
        while not over:
            for message in ray.get(hub.pull.remote(number, cursor)):
                cursor += 1
                over = isinstance(message, Outcome)
                yield message
    finally:
        if not over:
            hub.stop.remote(number)


def run(hub: Any, task: Task, on_report: Callable[[Report], None] = lambda report: None) -> Outcome:
    """The task's outcome; blocks until then."""
    for message in follow(hub, task):
        if isinstance(message, Outcome):
            return message
        on_report(message)
    raise AssertionError("a task ends with an outcome")
