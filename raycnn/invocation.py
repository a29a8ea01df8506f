"""How a command of raycnn is typed in this shell: for what is printed to be typed."""

import shlex
import shutil
import sys
from pathlib import Path


def command(*arguments: str | Path) -> str:
    """`raycnn ARGUMENTS`, by the script or the interpreter that runs now."""
    return shlex.join([*_start("raycnn"), *map(str, arguments)])


def same_command() -> str:
    """What was typed, to be typed again."""
    return shlex.join([*_start("raycnn.tune" if Path(sys.argv[0]).name == "tune.py" else "raycnn"), *sys.argv[1:]])


def undecodable(text: str) -> bool:
    """Whether a name, of a file or from the command line, is no text in the encoding of this system."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _start(module: str) -> list[str]:
    script = Path(sys.argv[0])
    return [_typed(script)] if script.name == "raycnn" else [_typed(Path(sys.executable)), "-m", module]


def _typed(program: Path) -> str:
    """Its bare name where the shell finds this very program by it; else a path. A virtual environment's python is a
    link to another's, and must not be followed."""
    for name in ("python", "python3", program.name) if program.name.startswith("python") else (program.name,):
        found = shutil.which(name)
        if found and _place(Path(found)) == _place(program):
            return name
    place, here = _place(program), Path.cwd().resolve()
    if not place.is_relative_to(here):
        return str(place)
    return str(place.relative_to(here)) if place.parent != here else f"./{place.name}"


def _place(program: Path) -> Path:
    return program.absolute().parent.resolve() / program.name
