"""Tasks spread over processes that end when they should: with Ctrl-C, and with a parent that was killed."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

Task = TypeVar("Task")
Worker = Callable[[Task], None]


def carried_out(
    tasks: Iterator[Task], make_worker: Callable[[], Worker[Task]], workers: int
) -> Generator[Task, None, None]:
    """Each task when it is done. Tasks are taken as processes become free; with one worker, this process does them.

    make_worker: makes, in each process, what does the tasks there; it is sent there, as tasks are. An error of a task
    is raised here, a process that dies is BrokenProcessPool. Close it early, and it waits for the tasks that run.
    """
    if workers == 1:
        work = make_worker()
        for task in tasks:
            work(task)
            yield task
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(make_worker,))
    running: dict[Future[None], Task] = {}
    try:
        for task in tasks:
            with _deaf_to_interrupts():
                running[pool.submit(_work, task)] = task
            if len(running) >= 2 * workers:
                yield from _done(running)
        while running:
            yield from _done(running)
    finally:
        pool.shutdown(cancel_futures=True)


def _done(running: dict[Future[None], Task]) -> list[Task]:
    """Waits for a task to end; takes those that have out of `running`."""
    ended = wait(running, return_when=FIRST_COMPLETED).done
    for future in ended:
        future.result()
    return [running.pop(future) for future in ended]


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started within stay so: a terminal's Ctrl-C reaches them too, but only the first is to act."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_works: list[Worker[Any]] = []  # of a worker process: one


def _start(make_worker: Callable[[], Worker[Any]]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _works.append(make_worker())


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: Any) -> None:
    _works[0](task)
