"""The token that a local Ray asks everybody for who wants something of it."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from raycnn.errors import ClusterError

_CHOSEN = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
"""Any of these in the environment: the user has a way of their own."""


def usual_token() -> Path | None:
    """Where a user's token lies; None where the user has no home."""
    try:
        return Path.home() / ".ray" / "auth_token"
    except RuntimeError:
        return None


def has_usual_token() -> bool:
    path = usual_token()
    return path is not None and os.access(path, os.R_OK)


def provide_token(place: Path) -> Path | None:
    """See that there is a token, readable for its owner alone (the one that Ray would write is for everybody).

    Where no home can be written it is made in `place`, and this process and those that it starts are told so. Returns
    the file that was written now, None where there was a token or the user has chosen otherwise. Raises ClusterError.
    """
    if os.environ.keys() & _CHOSEN:
        return None
    path = usual_token()
    if path is not None:
        if has_usual_token():
            _keep_private(path)
            return None
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return path if _written(path) else None
    own = place / "auth_token"
    _written(own)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(own)
    return own


def forget_token(place: Path) -> None:
    """Undo what `provide_token` has told the environment."""
    if os.environ.get("RAY_AUTH_TOKEN_PATH") == str(place / "auth_token"):
        del os.environ["RAY_AUTH_TOKEN_PATH"]


def _keep_private(path: Path) -> None:
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        path.chmod(0o600)
    if not path.read_text(encoding="utf-8", errors="replace").strip():
        raise ClusterError(f"{path}: holds no token. Remove it, and one is made.")


def _written(path: Path) -> bool:
    """Whether it was: another search that starts at the same time may have done it. Never there without its content."""
    handle, name = tempfile.mkstemp(dir=path.parent)  # mode 600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        os.link(name, path)
        return True
    except FileExistsError:
        return False
    finally:
        Path(name).unlink()
