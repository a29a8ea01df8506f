"""The commands: thin, and the only place that prints. `raycnn COMMAND`, `python -m raycnn COMMAND`."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer

from raycnn import ending
from raycnn.ending import INTERRUPTED, SIGNALS
from raycnn.errors import RaycnnError
from raycnn.files import disk_fault, fault_words
from raycnn.invocation import same_command
from raycnn.masking import masked

USER_ERROR = 2
_limit: ending.Limit | None = None
_process = 0  # that is interrupted


def main() -> None:
    """The entry point of `raycnn`. What lies in the current folder is not imported: a user's own model is found there
    by `models.imported`."""
    from raycnn.commands.ablate import ablate
    from raycnn.commands.compare import compare
    from raycnn.commands.corrupt import corrupt
    from raycnn.commands.doctor import doctor
    from raycnn.commands.export import export
    from raycnn.commands.fetch import fetch
    from raycnn.commands.report import report
    from raycnn.commands.reproduce import reproduce
    from raycnn.commands.score import score
    from raycnn.commands.train import train
    from raycnn.commands.tune import tune
    from raycnn.commands.watch import watch

    run(tune, watch, train, score, compare, report, ablate, export, reproduce, fetch, corrupt, doctor)


def run(*commands: Callable[..., None]) -> NoReturn:
    """Run the command line of one command, or of several by name; a user's error ends in its line and status 2."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # what this starts looks for no module in the current folder either
    if (here := str(Path(__file__).parents[2])) not in sys.path:
        sys.path.append(here)  # a checkout that is not installed: processes that this one starts look for raycnn too
    app = typer.Typer(
        help="Joint search over regularizers and optimizers, on Ray.",
        no_args_is_help=len(commands) > 1,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in commands:
        app.command()(command)
    _interrupt_on_signals()
    show_what_can_be_shown()
    try:
        app()  # by typer, a KeyboardInterrupt that comes so far is status 130
    except RaycnnError as error:
        for line in str(error).splitlines():
            print(f"raycnn: {masked(line)}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        if (fault := disk_fault(error)) is None:
            raise
        print(f"raycnn: {fault_words(fault)}, then give the same command again.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except Exception as error:  # Ray's are not imported where no command has
        if not _is_loss(error):
            raise
        from raycnn.slots.reasons import reason_of

        lost = f"Ray has lost something ({reason_of(error).rstrip('.')})"
        print(f"raycnn: {lost}. Give the same command again.", file=sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(0)


def show_what_can_be_shown() -> None:
    """From here on, what a terminal cannot show is a question mark there, and no traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_loss(error: Exception) -> bool:
    """Whether something of Ray's has died or was lost, which is no error of a program."""
    ray: Any = sys.modules.get("ray.exceptions")  # which takes long to import
    return ray is not None and isinstance(error, ray.RayError) and not isinstance(error, ray.RayTaskError)


@contextlib.contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Within it, or in a function that it decorates, Ctrl-C and SIGTERM end in what is kept, how to go on, and status
    130; so does this process a little later, whatever hangs."""
    ending.how_to_go_on = f"{kept}. Resume with:\n  {same_command()}"
    words = f"\nInterrupted; {ending.how_to_go_on}"
    if _limit:
        _limit.words = words
    try:
        yield
    except KeyboardInterrupt:
        _close()
        if _limit:
            _limit.words = ""
        print(words, file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)


def _interrupt_on_signals() -> None:
    global _limit, _process
    _limit, _process = ending.Limit(), os.getpid()
    for name in SIGNALS:
        signal.signal(name, _interrupt)


def _interrupt(*_: object) -> None:
    if os.getpid() != _process:  # forked, and about to become another program, such as one of Ray's
        os._exit(INTERRUPTED)
    _close()
    raise KeyboardInterrupt


def _close() -> None:
    """What follows has a limit, and a second Ctrl-C would only leave things behind."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)
    if _limit:
        _limit.begin()
