"""The line that says how far something is, on a terminal and in a file."""

import io

import pytest

from raycnn.commands import live
from raycnn.commands.live import LiveLine


class _Stream(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Its one number is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    return now


def _work(line: LiveLine, clock: list[float], what: str, total: int) -> None:
    """A tenth of it every ten seconds."""
    for tenth in range(11):
        line(what, total * tenth // 10, total)
        clock[0] += 10
    line.close()


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(clock):
    stream = _Stream(terminal=False)
    _work(LiveLine(stream), clock, "downloading x.tar", 2_000_000_000)
    assert stream.getvalue().splitlines() == [
        "downloading x.tar  0 %  0 kB of 2 GB",
        "downloading x.tar  30 %  600 MB of 2 GB  20 MB/s  1 min 10 s left",
        "downloading x.tar  60 %  1.2 GB of 2 GB  20 MB/s  40 s left",
        "downloading x.tar  90 %  1.8 GB of 2 GB  20 MB/s  10 s left",
        "downloading x.tar  100 %  2 GB of 2 GB  20 MB/s  in 1 min 40 s",
    ]


def test_a_terminal_gets_one_line_that_changes(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = _Stream(terminal=True)
    _work(LiveLine(stream), clock, "generating", 5000)
    written = stream.getvalue()
    assert written.count("\n") == 1
    looks = written.rstrip("\n").removesuffix("\x1b[K").split("\x1b[K\r")
    assert len(looks) == 11
    assert looks[4] == "generating  40 %  2,000 of 5,000  50/s  1 min 00 s left"[:39]


def test_what_stays_stands_above_what_changes(clock):
    stream = _Stream(terminal=True)
    line = LiveLine(stream)
    line("generating", 1, 10)
    line.say("fog.npy is written, 1 of 19")
    line.say("frost: procedural")
    clock[0] += 1
    line("generating", 2, 10)
    line.close()
    assert stream.getvalue().endswith(
        "\rfog.npy is written, 1 of 19\x1b[K\nfrost: procedural\n\rgenerating  20 %  "
        + ("2 of 10  1/s  8.0 s left\x1b[K\n")
    )


def test_what_was_there_before_does_not_count_as_speed(clock):
    stream = _Stream(terminal=False)
    line = LiveLine(stream)
    line("downloading x.tar", 900_000, 1_000_000)
    clock[0] += 10
    line("downloading x.tar", 1_000_000, 1_000_000)
    assert stream.getvalue().splitlines()[-1].endswith("1 MB of 1 MB  10 kB/s  in 10 s")


def test_a_stream_that_breaks_stops_nothing(clock):
    stream = _Stream(terminal=True)
    line = LiveLine(stream)
    stream.close = lambda: None

    def broken(text: str) -> int:
        raise BrokenPipeError

    stream.write = broken
    line("generating", 1, 10)
    line.say("a file is written")
    line.close()
