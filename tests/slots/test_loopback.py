"""A search on one machine: nothing of it can be reached from others, and it does not mind a second one beside it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import contextlib, json, sys, time
from pathlib import Path

from raycnn.search.cluster import connect, disconnect, prepare_environment

folder = Path(sys.argv[1])
prepare_environment(folder / "log.txt")
connect(None)
import psutil  # Ray brings it
import ray
from raycnn.slots import client
from raycnn.slots.messages import Task
from raycnn.slots.pool import SlotPool, SlotShape
import workloads

ray.cloudpickle.register_pickle_by_value(workloads)

@ray.remote(num_cpus=0)
def nodes():
    from ray.util.state import list_nodes  # as Ray Train's own processes: they look for the cluster's address
    return len(list_nodes())

with SlotPool(workloads.WORKLOAD, SlotShape(workers=2, cpus=0.5), folder) as pool:
    pool.grow(1)
    pool.post("ready")
    outcome = client.run(pool.hub, Task("sums", {"steps": 1, "directory": str(folder / "task")}))
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # an idle worker has left
            listening |= {
                f"{process.name()} {connection.laddr.ip}"
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN or connection.status == psutil.CONN_NONE
            }
    for _ in range(50):  # while Ray calls an actor its title is another, and for a moment that of before
        titles = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                titles += process.cmdline()[:1]
        if sum(" rank " in title for title in titles) == 2:
            break
        time.sleep(0.1)
    print(json.dumps({
        "status": outcome.status, "listening": sorted(listening), "nodes": ray.get(nodes.remote()), "titles": titles
    }), flush=True)
    if sys.argv[2:]:
        input()
disconnect()
"""


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(folder), *arguments]
    here = Path(__file__).parent
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=here, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="lists the sockets of processes as Linux has them")
def test_all_servers_of_two_searches_on_one_machine_listen_on_loopback_alone(tmp_path: Path):
    first = _start(tmp_path / "first", "stay")
    try:
        assert first.stdout
        line = first.stdout.readline()
        assert line, first.communicate()[1]
        said, errors = _start(tmp_path / "second").communicate(timeout=240)
        assert said, errors
        found = [json.loads(line), json.loads(said.splitlines()[-1])]
    finally:
        first.communicate("\n", timeout=60)
    for one in found:
        assert (one["status"], one["nodes"]) == ("done", 1)
        assert sum(" rank " in title for title in one["titles"]) == 2, one["titles"]
        assert len(one["listening"]) > 5
        addresses = {entry.rpartition(" ")[2].removeprefix("::ffff:") for entry in one["listening"]}
        assert addresses == {"127.0.0.1"}, one["listening"]
