"""The commands: thin, and the only place that prints. `raycnn COMMAND`, `python -m raycnn COMMAND`."""

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer

from raycnn.errors import RaycnnError
from raycnn.files import disk_fault, fault_words

USER_ERROR, INTERRUPTED = 2, 130


def main() -> None:
    """The entry point of `raycnn`. A user's own model is found in the current folder, as with `python -m raycnn`."""
    sys.path.insert(0, str(Path.cwd()))
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
    app = typer.Typer(
        help="Joint search over regularizers and optimizers, on Ray.",
        no_args_is_help=len(commands) > 1,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in commands:
        app.command()(command)
    try:
        app()
    except RaycnnError as error:
        for line in str(error).splitlines():
            print(f"raycnn: {line}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        if (fault := disk_fault(error)) is None:
            raise
        print(f"raycnn: {fault_words(fault)}, then give the same command again.", file=sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(0)


@contextlib.contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end in what is kept, how to go on, and status 130."""
    for name in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore SIGINT unless told
        signal.signal(name, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nInterrupted; {kept}. Resume with:\n  {same_command()}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _interrupt(*_: object) -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # what follows is quick, and a second Ctrl-C would only leave things behind
    raise KeyboardInterrupt


def same_command() -> str:
    """What was typed, to be typed again."""
    module = {"tune.py": "raycnn.tune", "__main__.py": "raycnn"}.get(Path(sys.argv[0]).name)
    return shlex.join([*(["python", "-m", module] if module else ["raycnn"]), *sys.argv[1:]])
