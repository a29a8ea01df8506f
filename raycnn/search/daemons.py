"""Ray's own processes: out of a terminal's reach, and watched, for without one of them Ray ends this process by itself,
seconds or a minute later, without a word."""

import contextlib
import functools
import importlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from raycnn import ending
from raycnn.process_table import state_and_parent

LOOK_S, ASK_S = 0.2, 5.0
SILENCE_S = 45.0  # of a cluster's control; Ray itself gives up after 60
_STATUS = 2
_NAMES = {"raylet": "node process (raylet)", "gcs_server": "control (gcs_server)"}
Look = Callable[[], str | None]
"""What has died, in words."""


def keep_apart() -> None:
    """What Ray starts here from now on is in process groups of its own: Ctrl-C in a terminal, or a signal to this
    process's group, is for this process, which then ends them in order. They end with it all the same, by the kernel
    of Linux; elsewhere Ray has a process for that, which needs the common group."""
    import ray._private.services as services

    started = getattr(services, "ConsolePopen", None)
    if sys.platform == "linux" and isinstance(started, type):
        setattr(services, "ConsolePopen", functools.partial(started, process_group=0))  # noqa: B010 for pyright


class Watch:
    """Ends this process, with a line, as soon as `look` tells a death."""

    def __init__(self, look: Look) -> None:
        self._look, self._over = look, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch over Ray")
        self._thread.start()

    def end(self) -> None:
        """Before Ray is shut down."""
        self._over.set()
        self._thread.join(ASK_S)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            if (died := self._look()) and not self._over.is_set():
                ending.end_now("; ".join(filter(None, [f"raycnn: {died}", ending.how_to_go_on])), _STATUS)


def own() -> Look:
    """Over the processes that Ray has started here, and that it cannot do without."""
    started = getattr(_node(), "all_processes", {})
    vital = [(kind, made.process) for kind, some in started.items() if kind in _NAMES for made in some]

    def look() -> str | None:
        for kind, process in vital:
            if process.poll() is not None:
                return f"Ray's {_NAMES[kind]}, process {process.pid}, has ended ({_how(process.returncode)})"
        return None

    return look


def joined(address: str) -> Look:
    """Over a cluster that others have started. address: of its control, host:port."""
    raylet = _listener(getattr(_node(), "raylet_socket_name", ""))
    host, _, port = address.rpartition(":")
    heard = asked = time.monotonic()

    def look() -> str | None:
        nonlocal heard, asked
        if raylet and not _lives(raylet):
            return f"Ray's {_NAMES['raylet']}, process {raylet}, has ended"
        if time.monotonic() - asked > ASK_S:
            with contextlib.suppress(OSError):
                socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
                heard = time.monotonic()
            asked = time.monotonic()
        silent_s = time.monotonic() - heard
        return f"the Ray cluster at {address} has not answered for {silent_s:.0f} s" if silent_s > SILENCE_S else None

    return look


def _node() -> Any:
    """What Ray knows of this machine; private, and only it knows the processes."""
    return getattr(importlib.import_module("ray._private.worker"), "_global_node", None)


def _how(status: int) -> str:
    if status == -signal.SIGKILL:
        return "killed, as the system does where memory runs out"
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _listener(path: str) -> int | None:
    """The process that listens on a socket of this machine, where the system tells it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(path)
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return struct.unpack("3i", peer)[0] or None
    except OSError:
        return None


def _lives(process: int) -> bool:
    """Not one that only waits for its parent to hear of its end."""
    try:
        os.kill(process, 0)
        return state_and_parent(process)[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
