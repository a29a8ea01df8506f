"""Downloads that can be interrupted, resumed and trusted."""

import hashlib
import time
from pathlib import Path
from urllib.parse import urlsplit

from raycnn.data.cache import Progress
from raycnn.errors import DataError
from raycnn.files import free_bytes

_CHUNK_BYTES = 1 << 17
_TIMEOUT_S = 30.0  # without an answer, or without a further byte
_PAUSE_S = 1.0  # before a broken connection is made again
_PARTIAL, _NOTHING_LEFT = 206, 416  # HTTP's answers to a wish for the rest: here it is; there is none


def download(
    url: str, target: Path, md5: str, mend: str, progress: Progress, most_bytes: int | None = None, tries: int = 1
) -> None:
    """Fetch `url` to `target` and check its MD5; `target` appears whole or not at all.

    What an interrupted download left (`part_of(target)`) is continued where the server can. The caller sees to it
    that no other process fetches the same file. mend: ends the error message, says what to do instead.
    progress: called with bytes. most_bytes: a longer answer is refused before it fills the disk. tries: a connection
    that breaks is made again so often, as long as each brings something.
    Raises DataError where network or disk fail, or the file is not the one meant.
    """
    part = part_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for had in (_size(part), 0):
            _fetch(url, part, most_bytes, tries, progress)
            if (found := file_md5(part, progress)) == md5:
                part.rename(target)
                return
            part.unlink()
            if not had:  # else it may be that what was there before was of another file
                break
    except OSError as error:  # requests' errors are among them
        if part.exists() and not _size(part):
            part.unlink()
        raise DataError(f"{url}: the download failed ({_reason(error, url)}). {mend}") from error
    raise DataError(f"{url}: what came has MD5 {found}, the official file has {md5}. {mend}")


def part_of(target: Path) -> Path:
    """What has come so far of a download to `target`."""
    return target.with_name(f"{target.name}.part")


def file_md5(path: Path, progress: Progress = lambda what, done, total: None) -> str:
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, _size(path)
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
            done += len(block)
            progress(f"checking {path.name}", done, total)
    return digest.hexdigest()


def require_space(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raises DataError where the disk of `directory`, made or not, has less free. purpose: "CIFAR-10-C takes"."""
    free = free_bytes(directory)
    if free < needed_bytes:
        raise DataError(
            f"{directory}: {purpose} {needed_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. Free some space, or "
            "name a folder on another disk."
        )


def _fetch(url: str, part: Path, most_bytes: int | None, tries: int, progress: Progress) -> None:
    """Let `part` grow to the whole file."""
    import requests  # slow to import, and most starts download nothing

    for _ in range(tries - 1):
        had = _size(part)
        try:
            _transfer(url, part, most_bytes, progress)
            return
        except requests.RequestException:
            if _size(part) <= had:
                raise
            time.sleep(_PAUSE_S)
    _transfer(url, part, most_bytes, progress)


def _transfer(url: str, part: Path, most_bytes: int | None, progress: Progress) -> None:
    """One connection: the rest of the file, or all of it where the server cannot begin in the middle."""
    import requests

    done = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if done and response.status_code == _NOTHING_LEFT:
            return
        response.raise_for_status()
        if response.status_code != _PARTIAL:
            done = 0
        length = response.headers.get("Content-Length", "")
        total = done + (int(length) if length.isdecimal() else 0)
        with part.open("ab" if done else "wb") as opened:
            for chunk in response.iter_content(_CHUNK_BYTES):
                done += len(chunk)
                if most_bytes is not None and max(done, total) > most_bytes:
                    opened.truncate(0)
                    raise OSError(f"it is longer than the {most_bytes:,} bytes that it may have")
                opened.write(chunk)
                progress(f"downloading {part.stem}", done, max(done, total))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: OSError, url: str) -> str:
    import requests

    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke; what came is kept, and the same command goes on from there"
    if isinstance(error, requests.Timeout):
        return f"no answer from {urlsplit(url).netloc}"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {urlsplit(url).netloc}"
    return str(error)
