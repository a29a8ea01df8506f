"""The commands: thin, and the only place that prints. `raycnn COMMAND`, `python -m raycnn COMMAND`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer

from raycnn.errors import RaycnnError

USER_ERROR, INTERRUPTED = 2, 130


def main() -> None:
    """The entry point of `raycnn`. A user's own model is found in the current folder, as with `python -m raycnn`."""
    sys.path.insert(0, str(Path.cwd()))
    from raycnn.commands.report import report
    from raycnn.commands.score import score
    from raycnn.commands.train import train
    from raycnn.commands.tune import tune

    run(tune, train, score, report)


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
    sys.exit(0)


def same_command() -> str:
    """What was typed, to be typed again."""
    module = {"tune.py": "raycnn.tune", "__main__.py": "raycnn"}.get(Path(sys.argv[0]).name)
    return shlex.join([*(["python", "-m", module] if module else ["raycnn"]), *sys.argv[1:]])
