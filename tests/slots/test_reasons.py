"""What is told of an error that Ray and Ray Train have wrapped."""

import pickle

import pytest
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from raycnn.slots.reasons import reason_of

LONG = "a frame of Ray\n" * 100
TOLD = "RuntimeError: The NVIDIA driver on your system is too old"


def task_error(cause: Exception) -> RayTaskError:
    text = f"Traceback (most recent call last):\n{LONG}{type(cause).__name__}: {cause}"
    return RayTaskError("join", text, cause, proctitle="rank", pid=1, ip="10.0.0.1")


def over_the_wire(error: Exception) -> Exception:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 what was made here


def driver_error() -> Exception:
    return RuntimeError("The NVIDIA driver\non your system is too old")


@pytest.mark.parametrize(
    "error",
    [
        driver_error(),
        task_error(driver_error()),
        task_error(driver_error()).as_instanceof_cause(),
        ControllerError(task_error(driver_error()).as_instanceof_cause()),
        over_the_wire(ControllerError(task_error(driver_error()))),
        WorkerGroupError(LONG, {0: driver_error()}),
        WorkerGroupError(LONG, {0: UserExceptionWithTraceback(driver_error(), LONG)}),
        WorkerGroupError(LONG, {0: WorkerHealthCheckFailedError(LONG, task_error(driver_error()))}),
    ],
)
def test_the_first_error_is_told_and_no_wrapper(error: Exception):
    assert reason_of(error) == TOLD


def test_the_cause_of_an_error_is_told():
    error = ValueError("the group could not be made")
    error.__cause__ = driver_error()
    assert reason_of(error) == TOLD


def test_of_several_ranks_the_one_that_raised_is_told_and_not_those_that_died_of_it():
    from ray.exceptions import ActorDiedError

    lost = WorkerHealthCheckFailedError("worker 0", ActorDiedError())
    assert reason_of(WorkerGroupError(LONG, {0: lost, 1: driver_error()})) == TOLD


def test_of_a_worker_that_was_killed_for_memory_the_reason_is_told_and_not_the_advice():
    from ray.exceptions import OutOfMemoryError

    killed = "1 worker(s) were killed due to the node running low on memory. It was at 0.97 of 64 GB."
    assert reason_of(OutOfMemoryError(f"Task failed.\n{killed}\nPID 17 60 GB\nConsider more memory.")) == killed


def test_of_a_process_that_died_suddenly_it_is_told_in_one_sentence():
    from ray.exceptions import RayActorError

    told = "The actor died.\n\tpid: 7\nThe actor is dead: Worker unexpectedly exits with code 2. Causes include: (1) …"
    assert reason_of(RayActorError(error_msg=told)).startswith("a process died suddenly: ")


def test_an_error_without_words_is_told_by_its_name():
    assert reason_of(MemoryError()) == "MemoryError"
