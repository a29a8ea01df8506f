"""Downloads from a server on this machine: whole, resumed, damaged, malicious, or not at all."""

import dataclasses
import hashlib
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raycnn import commands
from raycnn.data import cifar
from raycnn.data.sources import load
from raycnn.errors import DataError
from raycnn.spec.data import DataSpec

SPEC = DataSpec(name="cifar10")
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"


@pytest.fixture
def official(server, tmp_path, write_cifar10, monkeypatch):
    """A small "official" release on the server, in place of the real one."""
    folder = tmp_path / "release" / FOLDER
    write_cifar10(folder)
    server.content = _archive({f"{FOLDER}/{file.name}": file.read_bytes() for file in folder.iterdir()})
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    real = cifar.OFFICIAL["cifar10"]
    groups = {group: {name: md5[name] for name in getattr(real, group)} for group in ("train", "test", "meta")}
    small = dataclasses.replace(
        real, url=f"{server.url}/{ARCHIVE}", archive_md5=hashlib.md5(server.content).hexdigest(), **groups
    )
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", small)
    return small


def _archive(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return written.getvalue()


def _offer(server, monkeypatch, content: bytes) -> None:
    """Make the server's content the official archive, whatever it holds."""
    server.content = content
    changed = dataclasses.replace(cifar.OFFICIAL["cifar10"], archive_md5=hashlib.md5(content).hexdigest())
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", changed)


def _load(tmp_path: Path, progress=None):
    return load(SPEC, tmp_path / "root", progress, cache=tmp_path / "cache")


def test_missing_files_are_downloaded_verified_and_unpacked(tmp_path, server, official):
    told = []
    data = _load(tmp_path, lambda *progress: told.append(progress))
    assert data.verified
    assert len(data.train.labels) == 16
    assert {file.name for file in (tmp_path / "root" / FOLDER).iterdir()} == set(official.files)
    assert not list((tmp_path / "root").glob(f"{ARCHIVE}*"))
    downloads = [(done, total) for what, done, total in told if what == f"downloading {ARCHIVE}"]
    assert downloads[-1] == (len(server.content), len(server.content))
    assert all(done <= total for _, done, total in told)


def test_a_second_load_downloads_nothing(tmp_path, server, official):
    _load(tmp_path)
    _load(tmp_path)
    assert server.requests == [None]


def test_only_the_missing_files_are_replaced(tmp_path, server, official):
    _load(tmp_path)
    folder = tmp_path / "root" / FOLDER
    (folder / "data_batch_2").unlink()
    before = (folder / "data_batch_1").stat()
    _load(tmp_path)
    assert (folder / "data_batch_2").exists()
    assert (folder / "data_batch_1").stat().st_mtime_ns == before.st_mtime_ns


def test_an_interrupted_download_is_resumed(tmp_path, server, official):
    server.cut = 5000
    with pytest.raises(DataError, match="the download failed"):
        _load(tmp_path)
    server.cut = None
    assert _load(tmp_path).verified
    assert server.requests == [None, "bytes=5000-"]


def test_a_server_that_cannot_resume_sends_the_whole_again(tmp_path, server, official):
    server.cut, server.ranges = 5000, False
    with pytest.raises(DataError, match="the download failed"):
        _load(tmp_path)
    server.cut = None
    assert _load(tmp_path).verified
    assert server.requests == [None, "bytes=5000-"]


@pytest.mark.parametrize("part", [b"something else", b"x" * 10**6])
def test_the_rest_of_another_download_is_thrown_away(tmp_path, server, official, part):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / f"{ARCHIVE}.part").write_bytes(part)
    assert _load(tmp_path).verified


def test_an_archive_that_a_user_has_put_there_is_unpacked_and_kept(tmp_path, server, official):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ARCHIVE).write_bytes(server.content)
    assert _load(tmp_path).verified
    assert server.requests == []
    assert (tmp_path / "root" / ARCHIVE).exists()


def test_a_download_with_another_checksum_is_refused_and_leaves_nothing(tmp_path, server, official):
    server.content = _archive({f"{FOLDER}/data_batch_1": b"changed"})
    with pytest.raises(
        DataError, match=rf"{ARCHIVE}: what came has MD5 \w+, the official file has {official.archive_md5}"
    ):
        _load(tmp_path)
    assert not list((tmp_path / "root").glob("[!.]*"))


def test_without_a_network_the_error_says_what_to_put_where(tmp_path, official, monkeypatch):
    unreachable = dataclasses.replace(official, url=f"http://127.0.0.1:9/{ARCHIVE}")
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", unreachable)
    with pytest.raises(DataError) as caught:
        _load(tmp_path)
    message = str(caught.value)
    assert "no connection to 127.0.0.1:9" in message
    assert message.endswith(
        f"Put {ARCHIVE}, unpacked or not, into {tmp_path}/root, or name the folder that holds it with --data."
    )
    assert "\n" not in message
    assert not list((tmp_path / "root").glob("[!.]*"))


def test_a_mirror_is_asked_in_place_of_the_official_server(tmp_path, server, official, monkeypatch):
    unreachable = dataclasses.replace(official, url=f"http://127.0.0.1:9/{ARCHIVE}")
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", unreachable)
    assert not cifar.is_complete("cifar10", tmp_path / "root")
    mirror = f"{server.url}/mirrored?download=1"
    assert load(SPEC, tmp_path / "root", cache=tmp_path / "cache", mirror=mirror).verified
    assert cifar.is_complete("cifar10", tmp_path / "root")


def test_the_command_says_what_was_fetched_and_what_was_there(tmp_path, server, official, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["raycnn", "fetch", "cifar10", "--data", str(tmp_path / "root")])
    for already in ("", "already "):
        with pytest.raises(SystemExit) as ended:
            commands.main()
        assert ended.value.code == 0
        last = capsys.readouterr().out.splitlines()[-1]
        counts = "16 training and 5 test images"
        assert last == f"cifar10 in {tmp_path}/root: {already}complete, {counts}, checksums verified."
    assert server.requests == [None]


def test_a_server_that_refuses_is_quoted(tmp_path, server, official):
    server.status = 503
    with pytest.raises(DataError, match=r"503 Server Error.*--data"):
        _load(tmp_path)


def test_loads_at_once_download_once(tmp_path, server, official):
    with ThreadPoolExecutor(4) as pool:
        digests = {data.digest for data in pool.map(lambda _: _load(tmp_path), range(4))}
    assert len(digests) == 1
    assert server.requests == [None]


def test_no_path_in_an_archive_leaves_its_folder(tmp_path, server, official, monkeypatch):
    with tarfile.open(fileobj=io.BytesIO(server.content)) as archive:
        files = {member.name: opened.read() for member in archive if (opened := archive.extractfile(member))}
    evil = {"../evil": b"", f"{FOLDER}/../../evil": b"", str(tmp_path / "evil"): b"", f"{FOLDER}/extra": b""}
    _offer(server, monkeypatch, _archive(files | evil))
    assert _load(tmp_path).verified
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.rglob("extra"))


def test_a_link_in_the_place_of_a_batch_is_refused(tmp_path, server, official, monkeypatch):
    _offer(server, monkeypatch, _archive({}, links={f"{FOLDER}/data_batch_1": "/etc/passwd"}))
    with pytest.raises(DataError, match=r"data_batch_1 is no plain file"):
        _load(tmp_path)


def test_an_archive_without_the_files_is_refused(tmp_path, server, official, monkeypatch):
    _offer(server, monkeypatch, _archive({"readme": b""}))
    with pytest.raises(DataError, match=r"not the official archive .*data_batch_1"):
        _load(tmp_path)
