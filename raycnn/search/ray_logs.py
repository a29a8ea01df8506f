"""What Ray's own logs tell of an end, while they are still there: in one line, and for raycnn.log."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

_LAST = 20  # lines of a file
_MOST = 1 << 16  # bytes of a file that are read
_WORKERS = 5  # the files of so many workers, the latest
_BOILERPLATE = re.compile(r"An unexpected system state has occurred\..*?(?=Check failed)")
_FATAL = re.compile(r"^\[[^]]* [CE] \d+ \d+\] (?:\(\w+\) )?\S+: +(.*)")
_RAISED = re.compile(r"^([\w.]*(?:Error|Exception|Interrupt)\b.*)")


def cause_of_death(place: Path) -> str:
    """Why Ray did not start, as its processes wrote: one line, with the process's name. place: Ray's folder."""
    for name in (
        "raylet",
        "gcs_server",
        "dashboard_agent",
        "runtime_env_agent",
        "dashboard",
    ):  # who ends whom, last first
        for path in _logs(place, f"{name}.err", f"{name}.log", f"{name}.out"):
            if words := _fatal(path):
                return f"{name}: {words}"
    return "a process of Ray ended without a word"


def keep_last_lines(place: Path) -> None:
    """Write what Ray's logs end in to this process's own log."""
    logger = logging.getLogger("ray.last")
    workers = sorted(_logs(place, "worker-*.err"), key=lambda path: path.stat().st_mtime)[-_WORKERS:]
    names = ("raylet.err", "gcs_server.err", "dashboard.err", "dashboard_agent.*", "runtime_env_agent.*")
    for path in [*_logs(place, *names), *workers]:
        for line in _lines(path)[-_LAST:]:
            logger.warning("%s: %s", path.name, line)


def _logs(place: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(place.glob(f"session_2*/logs/{pattern}"))


def _fatal(path: Path) -> str:
    """The last error of a file: what a program in C++ wrote before it ended itself, or the last line of a traceback."""
    lines = _lines(path)
    for number in range(len(lines) - 1, -1, -1):
        if found := _FATAL.match(lines[number]):
            reason = _BOILERPLATE.sub("", found[1])
            return " ".join(reason.split())[:300]
        if found := _RAISED.match(lines[number]):
            return " ".join(found[1].split())[:300]
    return ""


def _lines(path: Path) -> list[str]:
    """Of its end, without empty ones and the addresses of a stack."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and not re.search(r"\(\+0x[0-9a-f]+\)", line)]
