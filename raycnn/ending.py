"""The end of this process, in time and with a word, also where its main thread hangs in a call of a library."""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

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
    """Say `words` on standard error and leave, from any thread. What Ray has started here ends with this process."""
    with contextlib.suppress(OSError, ValueError):
        words = f"{words}\n" if words else ""
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live line may have hidden it
        os.write(sys.stderr.fileno(), f"{cursor}{words}".encode(errors="replace"))
    os._exit(status)


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
