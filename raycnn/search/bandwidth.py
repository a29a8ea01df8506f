"""How fast the ranks of a trial could exchange gradients: all-reduce over the cluster's GPUs, or its CPUs.

algbw is bytes over time, busbw is that times 2 (n - 1) / n, so that it can be compared with a link's speed whatever the
number of ranks n: both as in the PERFORMANCE.md of NVIDIA's nccl-tests.
"""

import contextlib
import os
import re
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from raycnn.search.nodes import living_nodes
from raycnn.slots.interfaces import interface_of, use_interface_of

SIZES = {"gloo": (2**10, 2**16, 2**20, 2**24, 2**26), "nccl": (2**10, 2**20, 2**24, 2**28, 2**30)}
WORTHWHILE = {"NVLink": 100e9, "P2P": 10e9, "SHM": 3e9, "IB": 5e9}  # bytes/s that each gives at least, when healthy
START_S, EACH_S, LEAVE_S = 120.0, 0.5, 5.0


@dataclass(frozen=True, slots=True)
class AllReduce:
    """backend: gloo or nccl. ranks; busbw and algbw: bytes/s by size in bytes. transport: what NCCL chose, or the
    network interface of gloo. expected: bytes/s that the link should give, None where that is unknown."""

    backend: str
    ranks: int
    algbw: dict[int, float]
    busbw: dict[int, float]
    transport: str
    expected: float | None


def measure() -> AllReduce:
    """With a rank for each GPU of the cluster, or without GPUs one for each node (two where there is one node only)."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]}
    backend = "nccl" if sum(gpus.values()) > 1 else "gloo"
    if backend == "nccl":
        places = [node for node, count in gpus.items() for _ in range(count)]
    else:
        places = list(living_nodes().values())
        places *= 2 if len(places) == 1 else 1
    actor: Any = ray.remote(num_cpus=0, num_gpus=float(backend == "nccl"), max_restarts=0)(_Rank)
    ranks: list[Any] = [
        actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(place, soft=False)).remote(
            backend, rank, len(places)
        )
        for rank, place in enumerate(places)
    ]
    try:
        meeting = ray.get(ranks[0].meeting.remote(), timeout=START_S)
        ray.get([rank.join.remote(meeting) for rank in ranks], timeout=START_S)
        times: dict[int, float] = {}
        for size in SIZES[backend]:
            taken: Any = ray.get([rank.all_reduce.remote(size) for rank in ranks], timeout=START_S)
            times[size] = max(taken)
        transports: Any = ray.get([rank.transport.remote() for rank in ranks])
    finally:
        ray.wait([rank.leave.remote() for rank in ranks], num_returns=len(ranks), timeout=LEAVE_S)
        for rank in ranks:
            ray.kill(rank)
    algbw = {size: size / seconds for size, seconds in times.items()}
    factor = 2 * (len(places) - 1) / len(places)
    transport, expected = min(transports, key=lambda found: found[1] or float("inf"))
    return AllReduce(backend, len(places), algbw, {s: b * factor for s, b in algbw.items()}, transport, expected)


class _Rank:
    """One rank of the group; an actor."""

    def __init__(self, backend: str, rank: int, size: int) -> None:
        self._backend, self._rank, self._size = backend, rank, size
        self._folder = tempfile.TemporaryDirectory(prefix="raycnn-doctor-")
        self._log = Path(self._folder.name) / "nccl.txt"

    def meeting(self) -> str:
        """Where the ranks find each other: an address of this node that the others reach."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def join(self, meeting: str) -> None:
        import ray
        import torch

        from raycnn.slots.loopback import on_loopback, store

        os.environ |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,NET,P2P"}
        os.environ["NCCL_DEBUG_FILE"] = str(self._log)
        self._device = torch.device("cuda" if self._backend == "nccl" else "cpu")
        place: dict[str, Any] = {"init_method": meeting}
        if on_loopback():
            port = int(meeting.rpartition(":")[2])
            place = {"store": store(port, self._rank, self._size, timedelta(seconds=START_S))}
        else:
            use_interface_of(ray.util.get_node_ip_address())  # as the ranks of a trial
        torch.distributed.init_process_group(self._backend, rank=self._rank, world_size=self._size, **place)

    def all_reduce(self, size: int) -> float:
        """Median seconds of one, of `size` bytes of fp32."""
        import torch

        data = torch.ones(size // 4, device=self._device)
        times: list[float] = []
        began = time.perf_counter()
        # All ranks do the same number: rank 0 says when it is enough.
        go = torch.ones(1, device=self._device)
        while go.item():
            for _ in range(3):
                torch.distributed.barrier()
                start = time.perf_counter()
                torch.distributed.all_reduce(data)
                if self._device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
            go.fill_(float(time.perf_counter() - began < EACH_S))
            torch.distributed.broadcast(go, 0)
        return statistics.median(times[1:])

    def leave(self) -> None:
        """Nothing is left on the node's disk."""
        self._folder.cleanup()

    def transport(self) -> tuple[str, float | None]:
        """What carries the data, and what it should give at least (bytes/s), if that is known."""
        if self._backend == "nccl":
            with contextlib.suppress(OSError):
                return nccl_transport(self._log.read_text(encoding="utf-8", errors="replace"))
            return "unknown (NCCL wrote no log)", None
        import ray

        address = ray.util.get_node_ip_address()
        name = interface_of(address)
        speed = _speed_of(name)
        return f"socket, {name or address}", 0.3 * speed if speed else None


def nccl_transport(log: str) -> tuple[str, float | None]:
    """The slowest transport of NCCL's log (NCCL_DEBUG=INFO), and what it should give at least."""
    ways = set(re.findall(r" via (P2P|SHM|NET/IB|NET/Socket|NVLS)", log))
    if "NET/Socket" in ways:
        return "socket: the slow way between nodes", None
    if "NET/IB" in ways:
        return "InfiniBand or RoCE", WORTHWHILE["IB"]
    if "SHM" in ways:
        return "shared memory: GPUs cannot reach each other directly", WORTHWHILE["SHM"]
    if re.search(r"\bNVL\[|NVLS|NVLink", log):
        return "P2P over NVLink", WORTHWHILE["NVLink"]
    return ("P2P over PCIe", WORTHWHILE["P2P"]) if "P2P" in ways else ("unknown", None)


def _speed_of(interface: str) -> float | None:
    """Bytes/s that the kernel knows of it; None for loopback and virtual ones."""
    with contextlib.suppress(OSError, ValueError):
        megabits = int(Path(f"/sys/class/net/{interface}/speed").read_text(encoding="utf-8"))
        return megabits * 1e6 / 8 if megabits > 0 else None
    return None
