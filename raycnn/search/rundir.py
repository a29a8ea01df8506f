"""A run directory: who holds it, which search it is, and how it came about. The files are listed in the README."""

import contextlib
import fcntl
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import raycnn
from raycnn.errors import ClusterError, DataError, RaycnnError, SpecError
from raycnn.files import refuse_unwritable, remove_leftovers, write_atomically
from raycnn.masking import masked
from raycnn.run_files import MANIFEST, SPEC, read_manifest, read_spec, replace_manifest, write_spec
from raycnn.search.gpus import gpus_in_words
from raycnn.search.resources import Resources
from raycnn.spec.search import SearchSpec

LOCK = "run.lock"
# What may differ when a search is resumed: how much of it, where recipes lie that it has taken, on what hardware, and
# what comes after.
MAY_CHANGE = ("search.trials", "search.start", "trainer", "finals", "tracking")


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the run directory, alone among all processes. Raises ClusterError that says who holds it otherwise."""
    lock = FileLock(run / LOCK, timeout=1.0)  # a dry run looks whether it is held, and holds it for that moment
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        holder = {"pid": os.getpid(), "host": platform.node(), "since": _now()}
        write_atomically(run / "run.holder.json", json.dumps(holder))
    except Timeout:
        raise _held_by_another(run) from None
    except OSError as error:
        lock.release()
        raise _unwritable(run, error) from error
    try:
        remove_leftovers(run)
        yield
    finally:
        lock.release()


def refuse_unholdable(run: Path) -> None:
    """Raises what `held` would; nothing is changed."""
    try:
        refuse_unwritable(run)
        if not (run / LOCK).exists():
            return
        with (run / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # until it is closed
    except BlockingIOError:
        raise _held_by_another(run) from None
    except OSError as error:
        raise _unwritable(run, error) from error


def _held_by_another(run: Path) -> ClusterError:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads((run / "run.holder.json").read_text(encoding="utf-8"))
        return ClusterError(
            f"{run}: is held by process {holder['pid']} on {holder['host']} since {holder['since']}. "
            "Wait for it, stop it, or give another --run."
        )
    return ClusterError(f"{run}: is held by another process. Wait for it, or give another --run.")


def _unwritable(run: Path, error: OSError) -> ClusterError:
    return ClusterError(f"{run}: cannot be written ({error.strerror}). Give another --run.")


def refuse_other(run: Path, spec: SearchSpec) -> None:
    """Raises SpecError if the directory belongs to another search.

    One in which nothing has been trained is nobody's: what another search has begun there goes.
    """
    if is_abandoned(run, spec):
        _clear(run)


def is_abandoned(run: Path, spec: SearchSpec) -> bool:
    """Whether it holds another search that has trained nothing. Raises SpecError for one that has."""
    if not (run / SPEC).exists():
        return False
    before, now = (_flat(json.loads(s.model_dump_json())) for s in (read_spec(run), spec))
    for key in {**before, **now}:
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE):
            if _nothing_trained(run):
                return True
            raise SpecError(
                f"{run}: holds another search: {key} was {before.get(key)!r} and is now {now.get(key)!r}. "
                "Give another --run, or the old value."
            )
    return False


def _nothing_trained(run: Path) -> bool:
    """Whether no training has left an epoch, and no trial has ended. A journal that cannot be read may know of one."""
    left = [path for folder in ("trials", "finals") for path in (run / folder).rglob("*") if path.is_file()]
    if any(path.stat().st_size for path in left):
        return False
    from raycnn.search.journal import read_trials

    try:
        return not any(trial.state.is_finished() for trial in read_trials(run))
    except (RaycnnError, KeyError, ValueError, TypeError):
        return False


def _clear(run: Path) -> None:
    """Remove what a search leaves before its first epoch, for another to begin."""
    for name in (SPEC, MANIFEST, "study.journal"):
        (run / name).unlink(missing_ok=True)
    for name in ("cache", "trials"):
        shutil.rmtree(run / name, ignore_errors=True)


def keep_spec(run: Path, spec: SearchSpec) -> None:
    """Write spec.yaml: from here on the directory belongs to this search."""
    write_spec(run, spec)


def write_manifest(run: Path, facts: dict[str, Any]) -> None:
    """Add `facts` to manifest.json; what is there of the same name is replaced, but for the first start."""
    replace_manifest(run, (read_manifest(run) or {"started": _began(run)}) | facts)


def _began(run: Path) -> str:
    """Now, or when the first trial did, where the manifest is lost."""
    if not (run / "study.journal").exists():
        return _now()
    from raycnn.search.journal import read_trials  # imports Optuna, which takes a second

    starts = [trial.datetime_start.astimezone(UTC) for trial in read_trials(run) if trial.datetime_start]
    return min(starts).isoformat(timespec="seconds") if starts else _now()


def same_images(run: Path, images: dict[str, Any]) -> None:
    """Raises DataError where the run was begun with other images, or another split of them."""
    before = read_manifest(run).get("data", {})
    for name in ("digest", "split_digest"):
        if before.get(name) not in (None, images[name]):
            raise DataError(f"{run}: the images are others than they were ({name}). Name the right ones with --data.")


def record_openings(run: Path, paths: Iterable[Path], reason: str) -> None:
    """Add to manifest.json that test images were opened, when and what for."""
    before = read_manifest(run).get("openings", [])
    now = [{"time": _now(), "what": str(path), "reason": reason} for path in paths]
    write_manifest(run, {"openings": before + now})


def circumstances(resources: Resources) -> dict[str, Any]:
    """Versions, hardware, code state and command of this process, for the manifest. Ray is connected."""
    return {
        "raycnn": raycnn.__version__,  # not from the installation: raycnn runs from a checkout too
        **{name: version(name) for name in ("torch", "ray", "optuna", "numpy")},
        "python": platform.python_version(),
        "hardware": {
            "cpu": _processor(),
            "gpus": gpus_in_words(resources),
            "nodes": len(resources.nodes),
            "resources": resources.words(),
        },
        "git": _git_state(Path(__file__).parent),
        "command": masked(shlex.join(["python", *sys.orig_argv[1:]])),
        "resumed": _now(),
    }


def finish_manifest(run: Path) -> None:
    write_manifest(run, {"finished": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{path}.{key}" if path else key).items()}


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _git_state(directory: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
