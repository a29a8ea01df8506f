"""What Linux tells of processes, in /proc."""

from pathlib import Path


def state_and_parent(process: int) -> tuple[str, int]:
    """The letter of a process's state (Z: it has ended and its parent has not heard of it) and its parent's number.

    Raises OSError where there is no such process, or no /proc. proc(5).
    """
    text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    state, parent = text.rpartition(")")[2].split()[:2]  # the name before it may hold anything
    return state, int(parent)


def arguments_of(process: int) -> list[str]:
    """The command line of a process. Raises OSError."""
    return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
