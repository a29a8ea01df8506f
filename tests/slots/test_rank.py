"""A rank by itself, without a cluster."""

import subprocess
import sys
from typing import Any

import pytest

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import ctypes
from raycnn.slots import rank
rank._end_with_raylet()
print("waiting", flush=True)
ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock: no thread of Python's runs
'''])
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a process with its parent")
def test_a_rank_in_which_no_python_runs_any_more_ends_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "waiting\n"
    parent.kill()
    assert parent.communicate(timeout=30) == ("", None)  # at its end, when nobody is left to write to it


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without a GPU, as Ray Train would have it."""
    import torch

    monkeypatch.setattr("raycnn.slots.rank._device", lambda: torch.device("cpu"))


BROKEN = "CUDA error: an illegal memory access was encountered"


@pytest.fixture
def on_broken_cuda(on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which every call fails from now on, as after an error that stays with the process."""
    import torch

    def fail() -> None:
        raise RuntimeError(BROKEN)

    monkeypatch.setattr("raycnn.slots.rank._device", lambda: torch.device("cuda"))
    monkeypatch.setattr("raycnn.slots.gpu.gpu_share", lambda: 1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", fail)


def end_of(run: Any) -> Any:
    from raycnn.slots import rank
    from raycnn.slots.messages import Assignment, Task, Workload

    place = rank._Place(hub=None, slot=0, generation="a", rank=0, size=1)
    return rank._run(Workload(lambda _: None, run), Assignment(1, Task("t", None)), None, place)


@pytest.mark.usefixtures("on_broken_cuda")
def test_after_an_error_of_cuda_that_stays_the_reason_is_the_tasks_own():
    def run(*_: Any) -> None:
        raise ValueError("the index is too large")

    ended = end_of(run)
    assert (ended.status, ended.reason, ended.usable) == ("failed", "ValueError: the index is too large", False)


@pytest.mark.usefixtures("on_broken_cuda")
def test_an_error_of_cuda_that_shows_only_after_the_task_fails_it():
    ended = end_of(lambda *_: None)
    assert (ended.status, ended.reason, ended.usable) == ("failed", f"RuntimeError: {BROKEN}", False)


@pytest.mark.usefixtures("on_broken_cuda")
def test_a_task_that_was_stopped_stays_stopped_whatever_comes_after():
    from raycnn.slots.messages import StopTask

    def run(*_: Any) -> None:
        raise StopTask

    assert (end_of(run).status, end_of(run).usable) == ("stopped", False)


def test_a_task_that_leaves_by_sys_exit_fails():
    ended = end_of(lambda *_: sys.exit(3))
    assert (ended.status, ended.reason, ended.usable) == ("failed", "SystemExit: 3", True)


def test_a_ray_that_has_no_title_to_change_is_no_hindrance(monkeypatch: pytest.MonkeyPatch):
    from raycnn.slots import rank

    monkeypatch.setattr("ray._private.worker.global_worker", object())
    monkeypatch.delattr("ray._raylet.setproctitle")
    rank._title("trial-003 rank 0")
    assert end_of(lambda *_: None).status == "done"


@pytest.mark.parametrize(("backend", "aborted"), [("nccl", True), ("gloo", False)])
def test_a_group_of_nccl_is_aborted_and_never_destroyed(monkeypatch: pytest.MonkeyPatch, backend: str, aborted: bool):
    import torch.distributed as dist

    from raycnn.slots import group

    calls: list[str] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: backend)
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: calls.append("abort"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda *_: calls.append("destroy"))
    group.abort()
    assert calls == ["abort"] * aborted
