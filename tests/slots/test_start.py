"""A slot that cannot start says why, tries again a few times, leaves nothing behind, and ends the tasks."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import workloads

from raycnn.errors import ClusterError
from raycnn.slots import client, pool
from raycnn.slots.messages import Outcome, Task

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, in a process that we share with it
HOST = socket.gethostname()


def placement_groups() -> list[str]:
    from ray.util import placement_group_table

    return [group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]


def start(tmp_path: Path, shape: pool.SlotShape, start_s: float = 120.0) -> tuple[Outcome, list[str]]:
    """How a task ends on a slot that cannot start, and what the user hears. Nothing may hold resources any more."""
    news: list[str] = []
    with pool.SlotPool(workloads.WORKLOAD, shape, tmp_path, on_news=news.append, start_s=start_s) as slots:
        slots.grow(1)
        slots.post("ready")
        outcome = client.run(slots.hub, Task("any", {"directory": str(tmp_path)}))
        deadline = time.monotonic() + 60
        while (placement_groups() or not news or "is gone" not in news[-1]) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert placement_groups() == []
    return outcome, news


@pytest.mark.parametrize(
    ("loop", "reason"),
    [
        (workloads.loop_whose_group_fails, f"rank 0 of 1 on {HOST}: OSError: [Errno 98] Address already in use"),
        (workloads.LoopThatNoWorkerCanRead(), "ModuleNotFoundError: No module named 'elsewhere'"),
    ],
    ids=["group", "before it is heard of"],
)
def test_a_slot_that_cannot_start_tries_three_times_and_says_why(
    ray_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Callable[..., None], reason: str
):
    monkeypatch.setattr(pool, "rank_loop", loop)
    shape = pool.SlotShape(cpus=1.5)  # of two: a second one would wait for what the first holds
    assert start(tmp_path, shape) == (
        Outcome("stopped", reason),
        [
            f"slot 0 did not start, 1 of 3 tries: {reason}",
            f"slot 0 did not start, 2 of 3 tries: {reason}",
            f"slot 0 is gone: {reason}",
        ],
    )


def test_a_hub_that_has_died_ends_the_tasks_with_the_reason_and_hinders_no_closing(ray_here: Any, tmp_path: Path):
    with pool.SlotPool(workloads.WORKLOAD, pool.SlotShape(cpus=0.9), tmp_path) as slots:
        ray_here.get(slots.hub.ready_slots.remote())
        ray_here.kill(slots.hub)
        outcome = client.run(slots.hub, Task("any", {"directory": str(tmp_path)}))
    assert outcome.status == "stopped"
    assert "has died" in outcome.reason


@pytest.mark.slow
def test_a_first_all_reduce_that_hangs_ends_the_tasks_with_the_reason(
    ray_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool, "rank_loop", workloads.loop_whose_last_rank_hangs)
    outcome, news = start(tmp_path, pool.SlotShape(workers=2, cpus=0.9), start_s=5.0)
    assert outcome.status == "stopped"
    assert outcome.reason.startswith(f"rank 0 of 2 on {HOST}: ")
    assert len(news) == 3


def test_a_gpu_that_pytorch_cannot_use_is_refused_at_once_with_driver_cuda_and_mend(ray_here: Any, tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("PyTorch can use the GPU here")
    outcome, news = start(tmp_path, pool.SlotShape(cpus=0.9, gpus=1.0))
    assert outcome.status == "stopped"
    for part in (HOST, "Ray counts a GPU", f"CUDA {torch.version.cuda}", "driver", "gpus_per_worker: 0"):
        assert part in outcome.reason
    assert news == [f"slot 0 is gone: {outcome.reason}"]


def test_a_gpu_that_pytorch_cannot_use_is_no_processor_to_score_on(ray_here: Any, tmp_path: Path):
    import torch

    from raycnn.models.trust import trusted
    from raycnn.search.scoring import _Scorer

    if torch.cuda.is_available():
        pytest.skip("PyTorch can use the GPU here")
    scorer: Any = ray_here.remote(num_cpus=0.1, num_gpus=1)(_Scorer).remote(None, 1, None, trusted())
    with pytest.raises(ClusterError, match="Ray counts a GPU, but PyTorch"):
        ray_here.get(scorer.begin.remote())
    ray_here.kill(scorer)
