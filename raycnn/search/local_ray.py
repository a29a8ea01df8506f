"""A Ray of our own on this machine: on the loopback interface alone, with a folder that nobody else can enter."""

import contextlib
import logging
import os
import random
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import ClusterError
from raycnn.search import daemons
from raycnn.search.prometheus import told_to_prometheus
from raycnn.search.ray_logs import cause_of_death, keep_last_lines
from raycnn.search.token import forget_token, provide_token
from raycnn.slots import loopback
from raycnn.temporary import NAME_LENGTH, temporary_folder

START_S = 300.0
"""For each part of Ray to start. On a busy machine its own limits, 15 to 60 s, do not do."""

_ASKED_AGAIN = {"RAY_raylet_start_wait_time_s": "3"}
"""How long one look for a starting node takes. Between two it is seen whether it can still come."""

_CONTROL = "gcs_server_port"
_PORTS = range(20_000, 32_768)
"""Above those of Ray's workers, and below those that Linux, macOS and Windows give to whoever asks for any."""
_AGENTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")

_DOES_NOT_START = "Ray does not start on this machine"
_MEND = "Mend that, or wait until less runs here, and run the same command again."

_OPEN = "r"
"""Ray lets everybody write in the folder that it is given. So that lies in one that nobody else can enter."""

_LONGEST_SOCKET = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/dash_MetricsHead")
_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes


@dataclass(frozen=True, slots=True)
class LocalRay:
    """context: what ray.init returns. token: the file that was written now, for this user alone."""

    context: Any
    token: Path | None


@contextlib.contextmanager
def local_ray(**options: Any) -> Iterator[LocalRay]:
    """Ray's processes, until the block ends; then what they have left on the disk goes. options: of ray.init.

    If the block raises, the last lines of Ray's logs are in ours first. Raises ClusterError with Ray's own reason.
    """
    import ray

    with contextlib.ExitStack() as undo:
        base = _base()
        try:
            private = undo.enter_context(temporary_folder(base))
            token = provide_token(private)
            place = private / _OPEN
            place.mkdir()
        except OSError as error:
            raise ClusterError(
                f"{base}: Ray's folder cannot be made there ({error.strerror}). Free space there, or set TMPDIR."
            ) from error
        undo.callback(forget_token, private)
        try:
            _stay_on_loopback()
            daemons.keep_apart()
            ports = _free_ports()
            # Ray Train's processes look for the cluster's address, and where there are several Rays find several.
            undo.enter_context(_environment(RAY_ADDRESS=f"{loopback.ADDRESS}:{ports[_CONTROL]}"))
            here = _environment(TMPDIR=str(place), RAY_TMPDIR=str(place), **_ASKED_AGAIN)
            with here, _started_our_way(place, ports):
                ray._raylet.Config.initialize("")  # pyright: ignore as Ray does after a change of its environment
                context = ray.init("local", _temp_dir=str(place), dashboard_host="127.0.0.1", **options)
            undo.enter_context(told_to_prometheus(place))
            yield LocalRay(context, token)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                keep_last_lines(place)
            raise
        finally:
            ray.shutdown()


def _base() -> Path:
    """Where Ray's folder goes: TMPDIR, or /tmp where that is too deep for Ray's sockets. Raises ClusterError."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if wished := os.environ.get(variable):
            base = Path(wished).absolute()
            if reason := _unfit(base):
                raise ClusterError(f"{variable}={wished}: {reason}. Set {variable} to another directory, or unset it.")
            if (most := _longest()) >= len(os.fsencode(base)):
                return base
            if variable == "RAY_TMPDIR":
                raise ClusterError(
                    f"{variable}={wished}: is too deep for Ray's sockets. Set it to a directory of at most {most} "
                    "bytes, or unset it."
                )
            logging.getLogger(__name__).info("TMPDIR is too deep for Ray's sockets, which lie in /tmp therefore")
            break
    reasons = {base: _unfit(base) for base in (Path("/tmp"), Path("/var/tmp"))}
    for base, reason in reasons.items():
        if not reason:
            return base
    words = ", ".join(f"{base} {reason}" for base, reason in reasons.items())
    raise ClusterError(f"Ray finds no place for its files: {words}. Set TMPDIR to one of at most {_longest()} bytes.")


def _longest() -> int:
    return _SOCKET_PATH - _LONGEST_SOCKET - NAME_LENGTH - len(f"//{_OPEN}")


def _unfit(base: Path) -> str:
    """Why Ray's folder cannot lie there; empty where it can."""
    try:
        mode = base.stat().st_mode
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    if not stat.S_ISDIR(mode):
        return "is no directory"
    if not os.access(base, os.W_OK | os.X_OK):
        return "cannot be written"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return "lets every user replace what lies in it (chmod +t)"
    return ""


def _stay_on_loopback() -> None:
    """All servers of Ray, and what its workers open, on 127.0.0.1: other machines have no part in this. Ray has the
    same by default on macOS and Windows."""
    import ray._private.ray_constants as constants

    os.environ[constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for Ray's processes
    constants.ENABLE_RAY_CLUSTER = False
    loopback.use_interface()


def _free_ports() -> dict[str, int]:
    """For the Ray that starts next. They are chosen here, so that several Rays on one machine do not meet, and that
    nothing waits for an agent to say which it took: the raylet does so for 15 s, and dies. The job agent's usual port
    may be held by another (or a dying one), and then it takes no job. The system gives none of these to whoever asks
    for any port, so that they are still free when Ray's processes come to them seconds later."""
    names = (_CONTROL, *_AGENTS)
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((loopback.ADDRESS, port))
            found.append(port)
        if len(found) == len(names):
            return dict(zip(names, found, strict=True))
    raise ClusterError(f"{_DOES_NOT_START}: no port from {_PORTS[0]} to {_PORTS[-1]} is free. {_MEND}")


@contextlib.contextmanager
def _environment(**settings: str) -> Iterator[None]:
    """For the processes that are started within the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _started_our_way(place: Path, ports: dict[str, int]) -> Iterator[None]:
    """Within it, ray.init has its processes use `ports`, and waits for its node and its agents for START_S, but not
    when its raylet has died. These are private parts of Ray: where one is missing, it starts its own way."""
    import ray._private.parameter as parameter
    import ray._private.services as services

    if not (hasattr(services, "start_ray_process") and hasattr(services, "get_node")):
        yield
        return
    init, start, get = parameter.RayParams.__init__, services.start_ray_process, services.get_node
    raylets: list[Any] = []
    deadline = time.monotonic() + START_S

    def with_ports(self: Any, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named | ports)

    def start_process(command: list[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        raylet = process_type == "raylet"
        if raylet:  # Ray tells its agent, but forgets the raylet
            command = [*command, f"--dashboard_agent_listen_port={ports['dashboard_agent_listen_port']}"]
        started = start(command, process_type, *arguments, **named)
        if raylet:
            raylets.append(started.process)
        return started

    def get_node(*arguments: Any, **named: Any) -> Any:
        while True:
            # With this node's agents: a raylet dies with them, and a driver with its raylet, in C++ and without a word.
            waits_for = [name for name in _AGENTS if not any(place.glob(f"session_2*/{name}_*"))]
            if not waits_for:
                try:
                    return get(*arguments, **named)
                except RuntimeError:  # not there yet
                    waits_for = ["node"]
            if any(raylet.poll() is not None for raylet in raylets):
                raise ClusterError(f"{_DOES_NOT_START}: {cause_of_death(place)}. {_MEND}")
            if time.monotonic() > deadline:
                late = f"{waits_for[0].removesuffix('_port')} has not come within {START_S:g} s"
                raise ClusterError(f"{_DOES_NOT_START}: {late}. {_MEND}")
            time.sleep(0.1)

    parameter.RayParams.__init__ = with_ports
    services.start_ray_process, services.get_node = start_process, get_node
    try:
        yield
    finally:
        parameter.RayParams.__init__ = init
        services.start_ray_process, services.get_node = start, get
