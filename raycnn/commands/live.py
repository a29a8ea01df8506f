"""How far something is: on a terminal one line that changes, elsewhere lines that stay."""

import os
import shutil
import sys
import time
from typing import TextIO

from raycnn.reporting.words import byte_words, duration

_TERMINAL_S, _PLAIN_S = 0.2, 30.0  # between two looks
_IN_BYTES = ("downloading", "checking", "unpacking")  # what is counted in bytes; the rest is files or images


class LiveLine:
    """A `raycnn.data.cache.Progress` that prints. Where the stream breaks, the rest goes nowhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._what, self._open = "", False
        self._began = self._looked = 0.0
        self._before = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self.close()
            self._what, self._began, self._before = what, now, done
        elif done < total and now - self._looked < (_TERMINAL_S if self._terminal else _PLAIN_S):
            return
        self._looked = now
        self._show(f"{what}  {self._words(done, total, now - self._began)}" if total else f"{what} …")

    def say(self, text: str) -> None:
        """A line that stays, above the one that changes."""
        self._write(f"\r{text}\x1b[K\n" if self._open else f"{text}\n")
        self._open = False

    def close(self) -> None:
        """Leave the line as it stands."""
        if self._open:
            self._write("\n")
        self._open = False

    def _words(self, done: int, total: int, seconds: float) -> str:
        amount = byte_words if self._what.startswith(_IN_BYTES) else "{:,.0f}".format
        words = [f"{100 * done // total} %", f"{amount(done)} of {amount(total)}"]
        rate = (done - self._before) / seconds if seconds > 0 else 0
        if rate:
            words.append(f"{amount(rate)}/s")
            words.append(f"{duration((total - done) / rate)} left" if done < total else f"in {duration(seconds)}")
        return "  ".join(words)

    def _show(self, text: str) -> None:
        if self._terminal:
            self._write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
            self._open = True
        else:
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._terminal = self._open = False
