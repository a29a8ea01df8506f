"""Ray's own processes: apart from a terminal's signals, and watched. And the end of a process that hangs."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raycnn.search import daemons

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def python(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, **options)


def test_what_ray_starts_is_not_in_our_process_group_and_ends_with_us():
    """As Ray starts its processes."""
    done = python("""
import os
from raycnn.search import daemons
daemons.keep_apart()
daemons.keep_apart()
from ray._private import services
started = services.start_ray_process(["sleep", "600"], "raylet", fate_share=True).process
print(started.pid, os.getpgid(started.pid) == started.pid, os.getsid(started.pid) == os.getsid(0))
""")
    process, apart, same_session = done.stdout.split()
    assert (apart, same_session) == ("True", "True"), done.stderr
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process}/cmdline").exists() and Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_dead_process_of_ray_is_told(monkeypatch: pytest.MonkeyPatch):
    with subprocess.Popen(SLEEP) as raylet, subprocess.Popen(SLEEP) as monitor:
        made = {"raylet": [SimpleNamespace(process=raylet)], "monitor": [SimpleNamespace(process=monitor)]}
        monkeypatch.setattr(daemons, "_node", lambda: SimpleNamespace(all_processes=made))
        look = daemons.own()
        monitor.kill()
        monitor.wait()
        assert look() is None  # a search does without it
        raylet.kill()
        raylet.wait()
        words = "killed, as the system does where memory runs out"
        assert look() == f"Ray's node process (raylet), process {raylet.pid}, has ended ({words})"


LISTEN = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen()
    print("listens", flush=True)
    time.sleep(600)
"""


def test_of_a_cluster_of_others_the_node_process_and_the_control_are_watched(tmp_path, monkeypatch):
    path = str(tmp_path / "raylet")
    monkeypatch.setattr(daemons, "_node", lambda: SimpleNamespace(raylet_socket_name=path))
    monkeypatch.setattr(daemons, "ASK_S", 0.0)
    with subprocess.Popen([sys.executable, "-c", LISTEN, path], stdout=subprocess.PIPE) as raylet:
        assert raylet.stdout
        raylet.stdout.readline()
        with socket.create_server(("127.0.0.1", 0)) as control:
            address = f"127.0.0.1:{control.getsockname()[1]}"
            look = daemons.joined(address)
            assert look() is None
        monkeypatch.setattr(daemons, "SILENCE_S", 0.2)
        time.sleep(0.3)
        assert (look() or "").startswith(f"the Ray cluster at {address} has not answered for ")
        raylet.kill()  # not yet waited for: a zombie is dead
        while (words := look() or "").startswith("the Ray cluster"):
            time.sleep(0.05)
        assert words == f"Ray's node process (raylet), process {raylet.pid}, has ended"


def test_a_death_ends_a_process_whose_main_thread_hangs_and_its_children():
    done = python("""
import subprocess, time
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
print(child.stdout.readline().decode().strip(), flush=True)
from raycnn import ending
from raycnn.search import daemons
ending.how_to_go_on = "nothing finished is lost. Resume with:\\n  this"
watch = daemons.Watch(lambda: None)
watch.end()
began = time.monotonic()
daemons.Watch(lambda: "it has ended" if time.monotonic() - began > 0.5 else None)
time.sleep(600)
""")
    assert done.returncode == 2
    grandchild = Path(f"/proc/{done.stdout.strip()}/cmdline")
    deadline = time.monotonic() + 20
    while grandchild.exists() and grandchild.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert done.stderr == "raycnn: it has ended; nothing finished is lost. Resume with:\n  this\n"


HANGS = """
import sys, time
from raycnn import commands, ending
ending.LIMIT_S = 1.0

@commands.resumable("nothing is lost")
def hang(where: str):
    print("runs", flush=True)
    try:
        time.sleep(600)
    finally:
        if where == "closing":
            time.sleep(600)

sys.argv[0] = "raycnn"
commands.run(hang)
"""


@pytest.mark.parametrize("where", ["closing", "nowhere"])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_what_hangs_and_says_once_how_to_go_on(where: str, kind: int):
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(kind)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("\nInterrupted; nothing is lost. Resume with:\n  ")
    assert errors.count("\n") == 3


def test_a_job_that_joins_auto_joins_the_cluster_that_runs_it():
    """The one of the raylet above it."""
    inside = "from raycnn.search import cluster; print(cluster._cluster_of_this_job())"
    raylet = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inside!r}])"
    job = os.environ | {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    assert python(raylet, "--gcs-address=10.0.0.1:6379", env=job).stdout == "10.0.0.1:6379\n"
    assert python(raylet, "--gcs-address=10.0.0.1:6379").stdout == "None\n"
