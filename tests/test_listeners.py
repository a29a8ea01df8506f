"""Every port that a search opens, its own and Ray's: nothing can be changed through any of them without the token."""

import contextlib
import http.client
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

MARK = "RAYCNN_TEST_LISTENERS"
SPACE = """
name: long
data: {name: shapes, validation: 100, train_images: 400, test_images: 100}
model: fastnet
budget: {epochs: 100000, batch_size: 100}
space: {optimizer: {sgd: {lr: 0.1}}}
search: {trials: 1, objectives: [val/clean_error]}
finals: off
"""
METHODS = ("POST", "PUT", "DELETE", "PATCH")
ROUTES = (
    "/",
    "/api/jobs/",
    "/api/jobs/raysubmit_x",
    "/api/jobs/raysubmit_x/stop",
    "/api/job_agent/jobs/",
    "/api/job_agent/jobs/raysubmit_x/stop",
    "/api/packages/gcs/_ray_pkg_0123456789abcdef.zip",
    "/api/actors/kill?actor_id=x&force_kill=true",
    "/api/serve/applications/",
    "/api/profile_memory?pid=1",
    "/get_or_create_runtime_env",
    "/delete_runtime_env_if_possible",
    "/api/studies",
    "/api/studies/0",
    "/api/studies/0/rename",
    "/api/trials/0/tell",
    "/spec.yaml",
)
CALLS = (
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.ActorInfoGcsService/KillActorViaGcs",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.NodeManagerService/ShutdownRaylet",
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/Exit",
    "/ray.rpc.ReporterService/CpuProfiling",
    "/ray.rpc.LogService/StreamLog",
    "/ray.rpc.events.EventAggregatorService/AddEvents",
    "/ray.rpc.RayletDriver/KVPut",
    "/ray.rpc.RayletDriver/Schedule",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
)
PROVED = (
    "InternalKVGcsService/InternalKVPut",
    "NodeManagerService/ShutdownRaylet",
    "CoreWorkerService/Exit",
    "ObjectManagerService/Push",
)
"""Of these some port must say that it asks for the token: else the name is wrong, and nothing is tried."""
CLIENT = "RayletDriver/Schedule"
"""So too of the server for Ray's clients, which `ray start` starts."""
TRAPS = ("ray", "torch", "numpy", "optuna", "pandas", "plotly", "typer", "rich", "grpc", "aiohttp", "tensorboardX")
"""Modules that the folder in which the search is started has of its own."""
REFUSED = (401, 403, 404, 405, 501, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)


def processes() -> Iterator[Path]:
    """In /proc: those with MARK in their environment, and the rest of their sessions, where a title may hide it."""
    every = list(Path("/proc").glob("[0-9]*"))
    sessions = set()
    for process in every:
        with contextlib.suppress(OSError):
            if f"{MARK}=1".encode() in (process / "environ").read_bytes():
                sessions.add(os.getsid(int(process.name)))
    for process in every:
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) in sessions - {os.getsid(0)}:
                yield process


Listener = tuple[str, int]
"""IPv4 address, and port."""


def listeners() -> dict[Listener, str]:
    """All that those processes listen on -> whose it is."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":  # LISTEN
                address, port = words[1].split(":")
                last = bytes.fromhex(address)[
                    -4:
                ]  # all of IPv4's; of IPv6's what stands for one of those, or ::, or ::1
                if address == "0" * 24 + "01000000":
                    last = b"\1\0\0\x7f"
                sockets[f"socket:[{words[9]}]"] = socket.inet_ntoa(last[::-1]), int(port, 16)
    found: dict[Listener, str] = {}
    for process in processes():
        with contextlib.suppress(OSError):
            whose = (process / "cmdline").read_text().replace("\0", " ")
            for handle in (process / "fd").iterdir():
                with contextlib.suppress(OSError, KeyError):
                    found[sockets[str(handle.readlink())]] = whose
    return found


def answer(door: Listener, method: str, path: str, host: str) -> int | None:
    """HTTP status; None: no HTTP is spoken there."""
    connection = http.client.HTTPConnection(*door, timeout=20)
    try:
        connection.request(method, path, b"{}", {"Host": host, "Content-Type": "application/json"})
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return None
    finally:
        connection.close()


def call(door: Listener, name: str) -> grpc.StatusCode | None:
    """What a gRPC server says to a call without a token; None: no gRPC is spoken there."""
    with grpc.insecure_channel(f"{door[0]}:{door[1]}") as channel:
        try:
            channel.unary_unary(name)(b"", timeout=10)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()  # pyright: ignore[reportAttributeAccessIssue] not in the stub
            return None if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) else code


@contextlib.contextmanager
def search(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[int]:
    """A search that trains and whose optuna-dashboard answers; its port. arguments: of the command, further ones."""
    (folder / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "raycnn.tune", str(folder / "space.yaml"), "--run", str(folder / "run")]
    command += arguments
    output = folder / "output.txt"
    trap = folder / "trap"
    trap.mkdir()
    for name in TRAPS:
        (trap / f"{name}.py").write_text(
            f"open({str(folder / 'sprung')!r}, 'a').write('{name}\\n')\nraise SystemExit\n"
        )
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=trap,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline, board = time.monotonic() + 300, None
        while board is None or answer(("127.0.0.1", board), "GET", "/api/studies", "127.0.0.1") != 200:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            named = re.search(r"optuna-dashboard\s+http://127.0.0.1:(\d+)", output.read_text())
            board = int(named[1]) if named else None
            time.sleep(1)
        yield board
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(120)


def environment_of(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"HOME": str(folder), MARK: "1"}


def answers_of(door: Listener) -> dict[str, int | grpc.StatusCode]:
    """What is answered there to each method and call that changes something; nothing where neither is spoken there."""
    door = ("127.0.0.1" if door[0] == "0.0.0.0" else door[0], door[1])
    if answer(door, "GET", "/", "127.0.0.1") is not None:
        return {
            f"{method} {path} {host}": answer(door, method, path, host) or 0
            for path in ROUTES
            for host in ("127.0.0.1", "evil.example")
            for method in METHODS
        }
    found: dict[str, int | grpc.StatusCode] = {}
    for name in CALLS:
        code = call(door, name)
        if code is None:
            break  # nor gRPC: where the ranks of a trial meet
        found[name] = code
    return found


def nothing_can_be_changed(run: Path, board: int, proved: tuple[str, ...] = PROVED) -> None:
    """Asserts that every port refuses every method of HTTP and every call of gRPC that changes something."""
    journal = (run / "study.journal").read_bytes()
    doors = listeners()
    assert ("127.0.0.1", board) in doors
    assert any("agent" in whose for whose in doors.values()), doors
    with ThreadPoolExecutor(len(doors)) as threads:
        answers = dict(zip(doors, threads.map(answers_of, doors), strict=True))
    said = {(asked, door, doors[door]): told for door, found in answers.items() for asked, told in found.items()}
    assert {place: told for place, told in said.items() if told not in REFUSED} == {}
    for name in proved:
        codes = [told for (asked, _, _), told in said.items() if asked.endswith(name)]
        assert grpc.StatusCode.UNAUTHENTICATED in codes, f"no server of {name} was found: {codes}"
    assert (run / "study.journal").read_bytes().startswith(journal)
    for door, whose in sorted(doors.items()):  # for SECURITY.md: pytest -s
        print(f"{door} {whose[:100]}: {sorted(map(str, set(answers[door].values())))}")


@pytest.mark.slow
def test_no_port_of_a_local_search_changes_anything_without_the_token(tmp_path: Path):
    with search(tmp_path, environment_of(tmp_path)) as board:
        nothing_can_be_changed(tmp_path / "run", board)
        assert not (tmp_path / "sprung").exists()
        assert {door: whose for door, whose in listeners().items() if not door[0].startswith("127.")} == {}


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray that asks for a token, as `ray start` makes one: its address, and the environment of who may join."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = environment_of(folder) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--block", "--disable-usage-stats"]
    with tempfile.TemporaryDirectory(prefix="ray-") as place:  # sockets want short paths
        with (folder / "ray.txt").open("w") as output:
            head = subprocess.Popen(
                [*command, f"--temp-dir={place}"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield f"127.0.0.1:{port}", environment
        finally:
            head.terminate()
            head.wait(60)


@pytest.mark.slow
def test_no_port_of_a_search_that_joins_a_cluster_changes_anything_without_the_token(tmp_path: Path):
    """Without an address of loopback alone: other nodes have to come in."""
    with (
        cluster(tmp_path) as (address, environment),
        search(tmp_path, environment, "--address", address, "--set", "trainer.workers=2") as board,
    ):
        nothing_can_be_changed(tmp_path / "run", board, (*PROVED, CLIENT))
        assert not (tmp_path / "sprung").exists()
