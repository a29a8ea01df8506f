"""One file from a server on this machine, over connections that break, and from servers that mean no good."""

import hashlib

import pytest

from raycnn.data.download import download, part_of, require_space
from raycnn.errors import DataError

CONTENT = bytes(range(256)) * 100


def _fetch(server, folder, **limits):
    server.content = server.content or CONTENT
    md5 = hashlib.md5(CONTENT).hexdigest()
    download(f"{server.url}/file", folder / "file", md5, "Do that.", lambda *progress: None, **limits)
    return (folder / "file").read_bytes()


def test_a_connection_that_breaks_is_made_again(tmp_path, server):
    server.cut = 10_000
    assert _fetch(server, tmp_path, tries=3) == CONTENT
    assert server.requests == [None, "bytes=10000-", "bytes=20000-"]


def test_after_the_last_try_what_came_is_kept(tmp_path, server):
    server.cut = 10_000
    with pytest.raises(DataError, match=r"the connection broke; what came is kept.* Do that\.$"):
        _fetch(server, tmp_path, tries=2)
    assert part_of(tmp_path / "file").stat().st_size == 20_000


def test_a_connection_that_brings_nothing_is_not_made_again(tmp_path, server):
    server.cut = 0
    with pytest.raises(DataError, match="the download failed"):
        _fetch(server, tmp_path, tries=9)
    assert len(server.requests) == 1
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_complete_is_only_checked(tmp_path, server):
    part_of(tmp_path / "file").write_bytes(CONTENT)
    assert _fetch(server, tmp_path) == CONTENT  # the server answers 416


def test_an_endless_answer_is_refused(tmp_path, server):
    server.content = CONTENT * 40
    with pytest.raises(DataError, match="longer than the 26,000 bytes"):
        _fetch(server, tmp_path, most_bytes=26_000)
    assert not list(tmp_path.iterdir())


def test_what_does_not_exist_is_said_in_one_line(tmp_path, server):
    server.status = 404
    with pytest.raises(DataError, match="404 Client Error") as error:
        _fetch(server, tmp_path, tries=3)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_full_is_said_before(tmp_path):
    require_space(tmp_path, 1, "It takes")
    with pytest.raises(DataError, match=r"It takes 1000000000\.00 GB, .* GB are free\. Free some space"):
        require_space(tmp_path, 10**18, "It takes")
