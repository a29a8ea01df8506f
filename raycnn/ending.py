"""The end of this process, in time and with a word, also where its main thread hangs in a call of a library."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from raycnn.process_table import state_and_parent

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # also where SIGINT is ignored, as a shell's background jobs do unless told
LIMIT_S = 12.0  # after an interrupt, for all that closes; what a kill would not lose, this does not lose either

how_to_go_on = ""  # said last; of the command that runs
_more_s = 0.0


def leave_on_signals() -> None:
    """While a command is still being imported there is nothing to close and nothing to say."""
    for name in SIGNALS:
        signal.signal(name, lambda *_: os._exit(INTERRUPTED))


def allow(seconds: float) -> None:
    """For what has a limit of its own, and is worth waiting for."""
    global _more_s
    _more_s += seconds


def end_now(words: str, status: int) -> NoReturn:
    """Say `words` on standard error and leave, from any thread, with all that this process has started."""
    with contextlib.suppress(OSError, ValueError):
        words = f"{words}\n" if words else ""
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live line may have hidden it
        os.write(sys.stderr.fileno(), f"{cursor}{words}".encode(sys.stderr.encoding, errors="replace"))
    _kill_children()
    os._exit(status)


def _kill_children() -> None:
    """And theirs: workers of Ray would wait for a minute for a control that has died. Where there is no /proc, Ray's
    processes end by themselves."""
    parents: dict[int, int] = {}
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(found.name)] = state_and_parent(int(found.name))[1]
    ours = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in ours} - ours:
        ours |= more
    for process in ours - {os.getpid()}:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


class Limit:
    """A thread that ends this process LIMIT_S after `begin`. Made before it is needed, for a signal handler must not
    start a thread."""

    def __init__(self) -> None:
        self.words = ""  # for when it comes to that
        self._begun = threading.Event()
        threading.Thread(target=self._wait, daemon=True, name="limit").start()

    def begin(self) -> None:
        self._begun.set()

    def _wait(self) -> None:
        self._begun.wait()
        began = time.monotonic()
        while time.monotonic() - began < LIMIT_S + _more_s:
            time.sleep(0.2)
        end_now(self.words, INTERRUPTED)
