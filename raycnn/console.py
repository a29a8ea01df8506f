"""The observer that prints.

On a terminal: a header, one line for each finished trial, a live line at the bottom. In a pipe: plain lines, never
coloured, never wrapped.
"""

import re
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO, cast

import rich.console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raycnn.reporting.words import counted, duration, short_objective, short_parameters, value_words
from raycnn.search.observer import Observer, TrialLine


class Console:
    """Prints to `stream` (default: standard output). May be called from several threads, and after `close`.

    Where the stream breaks (a closed pipe, a lost connection), the rest goes nowhere and the search goes on.
    NO_COLOR is respected, and so is a TERM that has no cursor. width: columns, where the terminal should not be asked.
    """

    def __init__(self, stream: TextIO | None = None, width: int | None = None) -> None:
        lenient = cast(TextIO, _Lenient(stream or sys.stdout))
        terminal = rich.console.Console(
            file=lenient, force_terminal=lenient.isatty(), width=width, highlight=False, markup=False, emoji=False
        )
        live = terminal.is_terminal and not terminal.is_dumb_terminal
        self._view: Observer = _Screen(terminal) if live else _Lines(lenient)
        self._lock = threading.RLock()

    def header(self, lines: Mapping[str, str]) -> None:
        """One block, a line for each entry."""
        with self._lock:
            self._view.header({_clean(label): _clean(value) for label, value in lines.items()})

    def phase(self, name: str) -> None:
        """A heading."""
        with self._lock:
            self._view.phase(_clean(name))

    def trial_started(self, number: int, summary: str) -> None:
        """Seen in the live line only."""
        with self._lock:
            self._view.trial_started(number, _clean(summary))

    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """Seen in the live line only."""
        with self._lock:
            self._view.trial_progress(number, epoch, epochs, metrics)

    def trial_finished(self, line: TrialLine) -> None:
        """One line; a failure's reason stands in it, or below it where the terminal is too narrow."""
        with self._lock:
            self._view.trial_finished(line)

    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None:
        """Seen in the live line only."""
        with self._lock:
            self._view.finals_progress(running)

    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None:
        """Seen in the live line only."""
        with self._lock:
            self._view.status(running, done, wished, best, eta_s)

    def message(self, text: str) -> None:
        """One line."""
        with self._lock:
            self._view.message(_clean(text))

    def warning(self, text: str) -> None:
        """One line that begins with "warning"."""
        with self._lock:
            self._view.warning(_clean(text))

    def close(self) -> None:
        """Takes the live line away and gives the cursor back."""
        with self._lock:
            self._view.close()


class _Lines:
    """For pipes and files: what stays true is printed, what is live is not."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def header(self, lines: Mapping[str, str]) -> None:
        wide = max(map(len, lines), default=0)
        for label, value in lines.items():
            self.message(f"{label:<{wide}}  {value}")

    def phase(self, name: str) -> None:
        self.message(name)

    def trial_started(self, number: int, summary: str) -> None: ...

    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None: ...

    def trial_finished(self, line: TrialLine) -> None:
        objectives = ", ".join(f"{short_objective(name)} {value_words(name, e)}" for name, e in line.objectives.items())
        epochs, tail = f"{line.epochs}/{counted(line.epochs_wished, 'epoch')}", _tail(line)
        reason = f": {_clean(line.reason)}" if line.reason else ""
        words = f"{_WORDS.get(line.state, line.state.lower())}{reason}"
        self.message(
            f"{line.done}/{line.wished}  trial {line.number}  {words}  {objectives}  {epochs}  "
            f"{duration(line.seconds)}  {tail}".rstrip()
        )

    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None: ...

    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None: ...

    def message(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def warning(self, text: str) -> None:
        self.message(f"warning: {text}")

    def close(self) -> None: ...


class _Screen:
    """For terminals."""

    def __init__(self, terminal: rich.console.Console) -> None:
        self._terminal = terminal
        self._glyphs = _GLYPHS if terminal.encoding.startswith("utf") else _ASCII_GLYPHS
        self._line = _LiveLine("dots" if terminal.encoding.startswith("utf") else "line")
        self._live: Live | None = None
        self._titled = self._closed = False
        self._running: dict[str, tuple[int, int]] = {}  # by what is trained: epochs finished, of how many
        self._counts = (0, 0, 0)  # running, done, wished
        self._outlook = ""

    def header(self, lines: Mapping[str, str]) -> None:
        block = Table.grid(padding=(0, 2))
        block.add_column(style="dim", no_wrap=True)
        block.add_column(overflow="fold")
        for label, value in lines.items():
            block.add_row(Text(label), Text(value))
        self._terminal.print(block)

    def phase(self, name: str) -> None:
        self._terminal.print(Text(f"\n{name}", style="bold"))
        self._running, self._counts, self._outlook, self._titled = {}, (0, 0, 0), "", False
        self._line.name, self._line.since = name, time.monotonic()
        self._update()
        if self._live is None and not self._closed:
            # Standard output and error pass through while it lives: whatever else prints lands above the line.
            self._live = Live(self._line, console=self._terminal, refresh_per_second=5, transient=True)
            self._live.start()

    def trial_started(self, number: int, summary: str) -> None:
        self.trial_progress(number, 0, 0, {})

    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        self._show_running(self._running | {f"#{number}": (epoch, epochs)})

    def trial_finished(self, line: TrialLine) -> None:
        if not self._titled:
            self._titled = True
            self._print(Text(_columns("trial", "  state", _titles(line), "epochs", "time", "parameters"), style="dim"))
        self._print(_trial_row(line, self._glyphs.get(line.state, " ")))
        if line.reason:
            self._terminal.print(Text(f"       {_clean(line.reason)}", style="red"))
        self._running.pop(f"#{line.number}", None)
        self._counts = (len(self._running), line.done, line.wished)
        self._update()

    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None:
        self._show_running(dict(running))

    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None:
        self._counts = (running, done, wished)
        errors = ", ".join(f"{short_objective(name)} {value_words(name, value)}" for name, value in best.items())
        words = [f"best {errors}" if errors else "", f"{duration(eta_s)} left" if eta_s is not None else ""]
        self._outlook = " · ".join(filter(None, words))
        self._update()

    def message(self, text: str) -> None:
        self._terminal.print(Text(text))

    def warning(self, text: str) -> None:
        self._terminal.print(Text.assemble(("warning: ", "bold yellow"), text))

    def close(self) -> None:
        self._closed = True
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _print(self, row: Text) -> None:
        """A row of the table: cut at the edge."""
        self._terminal.print(row, no_wrap=True, overflow="ellipsis", crop=True)

    def _show_running(self, running: dict[str, tuple[int, int]]) -> None:
        self._running = running
        self._counts = (len(running), *self._counts[1:])
        self._update()

    def _update(self) -> None:
        running, done, wished = self._counts
        inside = ", ".join(f"{name} {epoch}/{of}" for name, (epoch, of) in self._running.items() if of)
        words = [f"{done}/{wished} done" if wished else "", self._outlook]
        if running and wished:
            words.insert(0, f"{running} running")
        self._line.words = [word for word in [*words, inside] if word]


class _LiveLine:
    """What stands at the bottom. Attributes are replaced, never changed: rich's own thread reads them without a lock,
    for it holds the terminal's while it does, and whoever prints takes them in the other order."""

    def __init__(self, spinner: str) -> None:
        self._spinner = Spinner(spinner, style="cyan")
        self.name, self.since = "", time.monotonic()
        self.words: list[str] = []

    def __rich__(self) -> Text:
        spinner = cast(Text, self._spinner.render(time.monotonic()))
        minutes, seconds = divmod(int(time.monotonic() - self.since), 60)
        text = Text.assemble(spinner, " ", self.name, (f" {minutes}:{seconds:02d}", "dim"))
        text.append("".join(f" · {word}" for word in self.words))
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class _Lenient:
    """A stream whose writes do not fail: what it cannot encode is a question mark, what it cannot take is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except (OSError, ValueError):  # ValueError: closed
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        return self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_STYLES = {"COMPLETE": "green", "PRUNED": "dim", "FAIL": "red"}
_GLYPHS = {"COMPLETE": "✓", "PRUNED": "–", "FAIL": "✗"}
_ASCII_GLYPHS = {"COMPLETE": "+", "PRUNED": "-", "FAIL": "x"}


def _trial_row(line: TrialLine, glyph: str) -> Text:
    style = _STYLES.get(line.state, "")
    state = f"{glyph} {_WORDS.get(line.state, line.state.lower())}"
    errors = [
        value_words(name, value).rjust(len(title))
        for (name, value), title in zip(line.objectives.items(), _titles(line), strict=True)
    ]
    epochs = f"{line.epochs}/{line.epochs_wished}"
    row = Text(_columns(str(line.number), state, errors, epochs, duration(line.seconds), _tail(line)))
    row.stylize("dim" if line.state == "PRUNED" else "", 0)
    row.stylize(style, 7, 7 + len(state))
    return row


def _titles(line: TrialLine) -> list[str]:
    return [short_objective(name).rjust(8) for name in line.objectives]


def _columns(number: str, state: str, errors: list[str], epochs: str, seconds: str, rest: str) -> str:
    return f"{number:>5}  {state:<10}  {'  '.join(errors)}  {epochs:>7}  {seconds:>11}  {rest}"


def _tail(line: TrialLine) -> str:
    return "untuned baseline" if line.kind == "baseline" else _clean(short_parameters(line.parameters))


def _clean(text: str) -> str:
    """One line, without the control characters by which a message could command the terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", re.sub(r"\s+", " ", text)).strip()
