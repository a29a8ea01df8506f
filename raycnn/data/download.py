"""Downloads that can be interrupted, resumed and trusted."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raycnn.data.cache import Progress
from raycnn.errors import DataError

_CHUNK_BYTES = 1 << 17
_TIMEOUT_S = 30.0  # without an answer, or without a further byte
_NOTHING_LEFT = 416  # HTTP's answer to a wish for what lies beyond the end


def download(url: str, target: Path, md5: str, mend: str, progress: Progress) -> None:
    """Fetch `url` to `target` and check its MD5; `target` appears whole or not at all.

    What an interrupted download left (`target` with .part) is continued where the server can. The caller sees to it
    that no other process fetches the same file. mend: ends the error message, says what to do instead.
    progress: called with bytes. Raises DataError where network or disk fail, or the file is not the one meant.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, md5, mend, progress)
        part.rename(target)
    except OSError as error:  # requests' errors are among them
        if part.exists() and not part.stat().st_size:
            part.unlink()
        raise DataError(f"{url}: the download failed ({_reason(error, url)}). {mend}") from error


def file_md5(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(url: str, part: Path, md5: str, mend: str, progress: Progress) -> None:
    import requests  # slow to import, and most starts download nothing
    from pooch import HTTPDownloader

    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    bar: Any = _Bar(f"downloading {url.rsplit('/', 1)[-1]}", start, progress)
    fetch = HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, headers=headers, timeout=_TIMEOUT_S)
    try:
        with part.open("ab") as opened:
            fetch(url, opened, None)
    except requests.HTTPError as error:
        if not start or error.response is None or error.response.status_code != _NOTHING_LEFT:
            raise
    found = file_md5(part)
    if found == md5:
        return
    part.unlink()
    if not start:
        raise DataError(f"{url}: what came has MD5 {found}, the official file has {md5}. {mend}")
    # The part was of another file, or the server sent the whole instead of the rest.
    _fetch(url, part, md5, mend, progress)


class _Bar:
    """What pooch takes for a progress bar: it sets `total`, then counts chunks, at the end everything once more."""

    def __init__(self, what: str, start: int, progress: Progress):
        self.what, self.start, self.progress = what, start, progress
        self.total = self.done = 0

    def update(self, n: int) -> None:
        self.done = min(self.done + n, self.total)
        self.progress(self.what, self.start + self.done, self.start + self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def _reason(error: OSError, url: str) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer from {urlsplit(url).netloc}"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {urlsplit(url).netloc}"
    return str(error)
