"""Whose code may run: networks of a user's own are Python modules, and a run directory may name any.

A name that the user has typed, or that stands in the file given, is trusted; so is the model of a run that this user
has made here. That is kept where only the user writes, in the folder of states of this account: for each run a random
number, its path and its models. The run has the number too (`run.id`), so that neither a copy, nor a directory that
says that it is another's, is taken for it. What is trusted counts for this process; workers are told by the driver.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from raycnn.errors import SpecError
from raycnn.files import write_atomically

ID = "run.id"
ANY = "*"
_ID_FORM = re.compile(r"[0-9a-f]{32}")
_OF_RUN = (ID, "study.journal", "finals/finalists.json")


class UntrustedModel(SpecError):
    """A network that nobody here has asked for."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """names: as `package.module:factory`; ANY: all. folder: where their modules may lie beside Python's own path."""

    names: frozenset[str] = field(default_factory=frozenset)
    folder: Path | None = None

    def refuse_other(self, name: str) -> None:
        """Raises UntrustedModel for a name that is not among them."""
        if not self.names & {name, ANY}:
            raise UntrustedModel(
                f"model: {name} would run code of the module {name.partition(':')[0]}, and what names it was not made "
                "here by you. Look at that module; if you trust it, give the command again with --trust-model."
            )


_trusted = Trusted()


def trusted() -> Trusted:
    """What this process may import, to be told to others."""
    return _trusted


def trust(names: Iterable[str], folder: Path | None = None) -> None:
    """From here on, in this process, these networks may be imported. folder: default: the current one."""
    global _trusted
    _trusted = Trusted(_trusted.names | {name for name in names if ":" in name or name == ANY}, folder or _here())


def adopt(told: Trusted) -> None:
    """In a worker: what its driver trusts."""
    global _trusted
    _trusted = told


def _here() -> Path | None:
    """The current folder; None where it is a run or lies in one: what a run brings is not found by chance."""
    here = Path.cwd()
    of_run = any((folder / name).exists() for folder in (here, *here.parents) for name in _OF_RUN)
    return None if of_run else here


def remember(run: Path, name: str) -> None:
    """Keep, for this user, that the run is their own and trains this network. Nothing for networks of raycnn's.

    Where it cannot be kept, as in a home that cannot be written, the user will be asked again.
    """
    known = remembered(run)
    if ":" not in name or name in known:
        return
    number = (_id_of(run) if known else None) or secrets.token_hex(16)  # one that came with the run is known to others
    record = json.dumps({"run": str(run.resolve()), "models": sorted({name, *known})})
    with contextlib.suppress(OSError):
        _states().mkdir(parents=True, exist_ok=True, mode=0o700)
        _states().chmod(0o700)
        for path, text in ((_record(number), record), (run / ID, number)):
            write_atomically(path, f"{text}\n")
            path.chmod(0o600)


def remembered(run: Path) -> tuple[str, ...]:
    """The networks of the run, if it was made here by this user; none for a copy, or where the record is damaged."""
    number = _id_of(run)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = _record(number or "none")
        if record.stat().st_uid == os.getuid():
            known = json.loads(record.read_text(encoding="utf-8"))
            return tuple(map(str, known["models"])) if known["run"] == str(run.resolve()) else ()
    return ()


def _id_of(run: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        number = (run / ID).read_text(encoding="ascii").strip()
        return number if _ID_FORM.fullmatch(number) else None
    return None


def _states() -> Path:
    from platformdirs import user_state_path

    return user_state_path("raycnn") / "runs"


def _record(number: str) -> Path:
    return _states() / f"{number}.json"
