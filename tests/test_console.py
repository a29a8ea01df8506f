"""The console on a terminal, in a pipe, from many threads, and where its stream breaks."""

import io
import re
import threading

import pytest

from raycnn.console import Console
from raycnn.search.observer import Observer, Silent, TrialLine


class Terminal(io.StringIO):
    """Says that it is one."""

    encoding = "utf-8"  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def finished(number=7, state="COMPLETE", reason=None, **changes) -> TrialLine:
    fields = {
        "number": number,
        "kind": "search",
        "state": state,
        "objectives": {"val/clean_error": 0.12345, "val/corruption_error": None},
        "epochs": 9,
        "epochs_wished": 30,
        "seconds": 185.2,
        "parameters": {
            "optimizer": "sgd",
            "optimizer.sgd.lr": 0.0312345,
            "cutout": "on",
            "cutout.size_px": 12,
            "mixup": "off",
        },
        "reason": reason,
        "done": number,
        "wished": 64,
    }
    return TrialLine(**(fields | changes))


def visible(text: str) -> str:
    """What is left without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def tell_everything(observer: Observer) -> None:
    observer.header(
        {
            "data": "shapes: 2,500 training images",
            "run": "runs/" + "long/" * 40,
            "Ray dashboard": "http://127.0.0.1:8265",
        }
    )
    observer.phase("starting workers")
    observer.phase("search")
    observer.trial_started(7, "")
    observer.trial_progress(7, 3, 30, {"val/clean_error": 0.3})
    observer.status(2, 6, 64, {"val/clean_error": 0.1, "val/corruption_error": 0.25}, 754.0)
    observer.trial_finished(finished())
    observer.trial_finished(finished(8, "PRUNED"))
    observer.trial_finished(finished(9, "FAIL", reason="epoch 3: the training loss is nan. Lower it."))
    observer.finals_progress({"baseline seed-0": (2, 30)})
    observer.message("cifar-10-c: 19 of 19")
    observer.warning("no GPU was found")
    observer.close()


def test_a_pipe_gets_one_plain_line_for_each_event_however_long():
    stream = io.StringIO()
    tell_everything(Console(stream))
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert lines[0] == "data           shapes: 2,500 training images"
    assert any(line.endswith("long/" * 40) for line in lines)
    assert lines[3:5] == ["starting workers", "search"]
    assert lines[5] == (
        "7/64  trial 7  complete  clean 12.35 %, corruption –  9/30 epochs  3 min 05 s  "
        "sgd lr=0.0312, cutout size_px=12"
    )
    assert "failed: epoch 3: the training loss is nan. Lower it." in lines[7]
    assert lines[8:] == ["cifar-10-c: 19 of 19", "warning: no GPU was found"]


def test_a_pipe_stays_plain_where_colour_is_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    tell_everything(Console(stream))
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_aligned_rows_and_its_cursor_back():
    stream = Terminal()
    tell_everything(Console(stream, width=120))
    text = stream.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", visible(text))]
    rows = [line for line in lines if re.match(r" +\d+  [✓–✗] ", line)]
    assert [row.split()[:3] for row in rows] == [["7", "✓", "complete"], ["8", "–", "pruned"], ["9", "✗", "failed"]]
    title = next(line for line in lines if line.lstrip().startswith("trial "))
    for row in rows:
        assert row.index("12.35 %") + len("12.35 %") == title.index("clean") + len("clean")
        assert row.index("sgd lr") == title.index("parameters")
    assert any("epoch 3: the training loss is nan" in line for line in lines)


def test_the_live_line_tells_what_runs_what_is_done_the_best_and_what_is_left():
    stream = Terminal()
    console = Console(stream, width=150)
    console.phase("search")
    console.trial_progress(7, 3, 30, {})
    console.status(2, 6, 64, {"val/clean_error": 0.1, "val/corruption_error": 0.25}, 754.0)
    console._view._live.refresh()  # pyright: ignore[reportAttributeAccessIssue]
    console.close()
    assert "2 running · 6/64 done · best clean 10.00 %, corruption 25.00 % · 12 min 34 s left · #7 3/30" in visible(
        stream.getvalue()
    )


def test_the_live_line_names_each_final_that_trains():
    stream = Terminal()
    console = Console(stream, width=150)
    console.phase("finals")
    console.status(0, 0, 6, {}, None)
    console.finals_progress({"baseline seed-0": (2, 4), "trial-003 seed-1": (1, 4)})
    console._view._live.refresh()  # pyright: ignore[reportAttributeAccessIssue]
    console.close()
    assert "2 running · 0/6 done · baseline seed-0 2/4, trial-003 seed-1 1/4" in visible(stream.getvalue())


def test_rows_are_cut_at_the_edge_of_a_narrow_terminal_and_never_wrap():
    stream = Terminal()
    console = Console(stream, width=60)
    console.trial_finished(finished(parameters={f"a.b{i}": 0.123 for i in range(30)}))
    console.close()
    lines = visible(stream.getvalue()).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].endswith("…")


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    tell_everything(Console(stream, width=120))
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", stream.getvalue()) for code in found.split(";")}
    assert not {code for code in codes if re.fullmatch(r"3[0-9]|9[0-7]|4[0-9]", code)}


def test_a_terminal_without_a_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    tell_everything(Console(stream, width=80))
    assert "\x1b" not in stream.getvalue()


def test_an_ascii_stream_gets_glyphs_that_it_can_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    stream.isatty = lambda: True  # pyright: ignore[reportAttributeAccessIssue]
    tell_everything(Console(stream, width=120))
    assert "+ complete" in raw.getvalue().decode("ascii")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_message_cannot_command_the_terminal_or_bring_markup(terminal):
    stream = Terminal() if terminal else io.StringIO()
    console = Console(stream, width=120)
    console.message("a \x1b[2Jb\r\nc [red]d[/red] :smile:")
    console.trial_finished(finished(state="FAIL", reason="line one\nline two \x1b]0;title\x07"))
    console.close()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
    assert "a [2Jb c [red]d[/red] :smile:" in visible(stream.getvalue())
    assert "line one line two" in visible(stream.getvalue())


@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_stream_is_no_reason_to_stop(terminal):
    stream = Terminal() if terminal else io.StringIO()
    console = Console(stream, width=120)
    console.phase("search")
    stream.close()
    tell_everything(console)


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_from_many_threads_stay_whole(terminal):
    stream = Terminal() if terminal else io.StringIO()
    console = Console(stream, width=150)
    console.phase("search")

    def work(first: int) -> None:
        for number in range(first, first + 25):
            console.trial_started(number, "")
            console.status(4, number, 64, {"val/clean_error": 0.1}, 10.0)
            console.trial_finished(finished(number))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    console.close()
    rows = [line for line in re.split(r"[\r\n]+", visible(stream.getvalue())) if "complete" in line]
    assert len(rows) == 100
    assert all(row.rstrip().endswith("cutout size_px=12") for row in rows)


def test_calls_after_close_print_and_bring_no_live_line_back():
    stream = Terminal()
    console = Console(stream, width=120)
    console.phase("search")
    console.close()
    console.close()
    written = len(stream.getvalue())
    console.phase("finals")
    console.message("resume with: python -m raycnn.tune x.yaml")
    after = stream.getvalue()[written:]
    assert "resume with" in after
    assert "\x1b[?25l" not in after


def test_the_silent_observer_takes_everything(capsys):
    tell_everything(Silent())
    assert capsys.readouterr() == ("", "")
