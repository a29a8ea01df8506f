"""Fetching official files from a server on this machine: whole, resumed, in the way already, damaged, malicious."""

import gzip
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from raycnn import commands, invocation
from raycnn.data import download
from raycnn.errors import DataError
from raycnn.robustness import fetching
from raycnn.robustness.fetching import OFFICIAL, Official
from raycnn.robustness.origin import OFFICIAL_MARK

N = 2
ARCHIVE = "CIFAR-10-C.tar"
FOLDER = "CIFAR-10-C"
LABELS = np.tile(np.array([3, 8], np.uint8), 5)
Members = dict[str, bytes | tarfile.TarInfo]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command's own handlers are not to outlive it here."""
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def _npy(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def _members(name: str) -> Members:
    """A release of N images in which every file has another value."""
    official = Official(OFFICIAL[name].url, "", N)
    files = {file: _npy(np.full(shape, place, np.uint8)) for place, (file, shape) in enumerate(official.shapes.items())}
    if "labels.npy" in files:
        files["labels.npy"] = _npy(LABELS)
    return {f"{official.folder}/{file}": content for file, content in files.items()}


def _tar(members: Members) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


@pytest.fixture
def offer(server, monkeypatch) -> Callable[..., None]:
    """offer(content, name): make the content the official archive of that set, on the server."""

    def make_official(content: bytes, name: str = "cifar10-c") -> None:
        server.content = content
        md5 = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(OFFICIAL, name, Official(f"{server.url}/{OFFICIAL[name].archive}", md5, N))

    return make_official


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """command(*arguments): exit status, output and errors of `raycnn fetch`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raycnn", "fetch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return run


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_set_is_downloaded_verified_and_unpacked(tmp_path, server, offer, command, name):
    members = _members(name)
    offer(_tar(members), name)
    status, output, errors = command(name, "--data", tmp_path)
    folder = tmp_path / OFFICIAL[name].folder
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1].startswith(f"{folder}: complete, {len(members)} files of the archive with the offic")
    assert {path.name for path in folder.iterdir()} == {Path(member).name for member in members} | {OFFICIAL_MARK}
    for member, content in members.items():
        assert (tmp_path / member).read_bytes() == content
    assert [path.name for path in tmp_path.glob("[!.]*")] == [folder.name]
    assert not list(tmp_path.glob(f".{folder.name}-*"))


def test_a_second_fetch_says_that_all_is_there(tmp_path, server, offer, command):
    offer(_tar(_members("cifar10-c")))
    command("cifar10-c", "--data", tmp_path)
    status, output, _ = command("cifar10-c", "--data", tmp_path)
    assert status == 0
    assert output == f"{tmp_path}/{FOLDER}: already complete, 20 files of the archive with the official MD5, " + (
        "for 2 test images.\n"
    )
    assert server.requests == [None]


def test_files_that_a_user_has_unpacked_are_taken_and_their_origin_left_open(tmp_path, server, offer, command):
    (tmp_path / FOLDER).mkdir()
    for member, content in _members("cifar10-c").items():
        (tmp_path / member).write_bytes(content)
    offer(_tar(_members("cifar10-c")))
    status, output, _ = command("cifar10-c", "--data", tmp_path)
    assert status == 0
    assert "already complete, 20 files of an archive whose MD5 was not seen here" in output
    assert server.requests == []


def test_an_archive_that_a_user_has_put_there_is_unpacked_and_kept(tmp_path, server, offer, command):
    offer(_tar(_members("cifar10-c")))
    (tmp_path / ARCHIVE).write_bytes(server.content)
    status, output, _ = command("cifar10-c", "--data", tmp_path)
    assert status == 0
    assert output.endswith(f"{tmp_path / ARCHIVE} is kept, but needed no more.\n")
    assert (tmp_path / ARCHIVE).exists()
    assert server.requests == []


def test_a_mirror_is_asked_and_its_archive_has_to_be_the_official_one(tmp_path, server, offer, command, monkeypatch):
    content = _tar(_members("cifar10-c"))
    offer(content)
    here = OFFICIAL["cifar10-c"]
    monkeypatch.setitem(OFFICIAL, "cifar10-c", Official(f"http://127.0.0.1:9/{ARCHIVE}", here.md5, N))
    server.content = _tar({})
    status, _, errors = command("cifar10-c", "--data", tmp_path, "--url", f"{server.url}/mirrored?download=1")
    assert (status, errors.count("\n")) == (2, 1)
    assert f"the official file has {here.md5}" in errors
    server.content = content
    assert command("cifar10-c", "--data", tmp_path, "--url", f"{server.url}/mirrored?download=1")[0] == 0


def test_a_broken_connection_is_made_again_where_it_broke(tmp_path, server, offer, command):
    offer(_tar(_members("cifar10-c")))
    server.cut = 400_000
    assert command("cifar10-c", "--data", tmp_path)[0] == 0
    assert server.requests == [None, "bytes=400000-"]


def test_without_a_network_the_line_says_what_to_put_where(tmp_path, offer, command, monkeypatch):
    monkeypatch.setitem(OFFICIAL, "cifar10-c", Official(f"http://127.0.0.1:9/{ARCHIVE}", "", N))
    status, _, errors = command("cifar10-c", "--data", tmp_path)
    assert status == 2
    assert errors == (
        f"raycnn: http://127.0.0.1:9/{ARCHIVE}: the download failed (no connection to 127.0.0.1:9). "
        f"Put {ARCHIVE} into {tmp_path}, or its files into {tmp_path}/{FOLDER}.\n"
    )


@pytest.mark.parametrize("status", [403, 404, 416, 503])
def test_a_server_that_refuses_is_quoted_in_one_line(tmp_path, server, offer, command, status):
    offer(b"")
    server.status = status
    ended, _, errors = command("cifar10-c", "--data", tmp_path)
    assert (ended, errors.count("\n")) == (2, 1)
    assert f"({status} " in errors


def test_a_full_disk_is_said_before_anything_is_downloaded(tmp_path, server, offer, command, monkeypatch):
    offer(_tar(_members("cifar10-c")))
    monkeypatch.setattr(download, "free_bytes", lambda _: 1000)
    status, _, errors = command("cifar10-c", "--data", tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert f"{tmp_path}: {ARCHIVE} and its files take another 0.00 GB, 0.00 GB are free. Free some space" in errors
    assert server.requests == []


def _link(kind: bytes) -> Members:
    member = tarfile.TarInfo(f"{FOLDER}/fog.npy")
    member.type, member.linkname = kind, "/etc/passwd"
    return {f"{FOLDER}/fog.npy": member}


def _claiming(size: int) -> bytes:
    """An archive whose fog.npy claims more than is there."""
    member = tarfile.TarInfo(f"{FOLDER}/fog.npy")
    member.size = size
    return member.tobuf() + _tar(_members("cifar10-c"))


def _sparse(_: Members) -> bytes:
    """As GNU tar stores a file of 1 TB that is nearly all holes."""
    member = tarfile.TarInfo(f"{FOLDER}/fog.npy")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\x0000000000000\x00"
    header[483:495] = b"\x80" + (10**12).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header) + _tar({})


def _renamed(to: str) -> Callable[[Members], Members]:
    return lambda members: {to if name == f"{FOLDER}/fog.npy" else name: content for name, content in members.items()}


def _with(file: str, array: np.ndarray) -> Callable[[Members], Members]:
    return lambda members: members | {f"{FOLDER}/{file}": _npy(array)}


_IMAGES = np.zeros((5 * N, 32, 32, 3), np.uint8)
_BROKEN: dict[str, tuple[Callable[[Members], Members | bytes], str]] = {
    "no archive": (lambda members: b"<html>sign in first</html>" * 400, "not a readable archive"),
    "empty": (lambda members: b"", "not a readable archive"),
    "torn": (lambda members: _tar(members)[:200_000], "not a readable archive"),
    "torn in a header": (lambda members: _tar(members)[: 2 * 512 + 100], "gaussian_noise.npy, .* missing"),
    "compressed": (lambda members: gzip.compress(_tar(members)), "not a readable archive"),
    "a path upwards": (_renamed("../fog.npy"), "fog.npy missing"),
    "a path upwards within": (_renamed(f"{FOLDER}/../../fog.npy"), "fog.npy missing"),
    "an absolute path": (_renamed("/tmp/fog.npy"), "fog.npy missing"),
    "another folder": (_renamed("CIFAR-100-C/fog.npy"), "fog.npy missing"),
    "another name": (_renamed(f"{FOLDER}/mist.npy"), "fog.npy missing"),
    "a folder too deep": (_renamed(f"{FOLDER}/{FOLDER}/fog.npy"), "fog.npy missing"),
    "a symbolic link": (lambda members: members | _link(tarfile.SYMTYPE), "fog.npy is no plain file"),
    "a hard link": (lambda members: members | _link(tarfile.LNKTYPE), "fog.npy is no plain file"),
    "a device": (lambda members: members | _link(tarfile.CHRTYPE), "fog.npy is no plain file"),
    "a pipe": (lambda members: members | _link(tarfile.FIFOTYPE), "fog.npy is no plain file"),
    "a directory": (lambda members: members | _link(tarfile.DIRTYPE), "fog.npy is no plain file"),
    "a sparse file": (_sparse, "fog.npy is no plain file"),
    "a bomb": (lambda members: _claiming(10**13), "fog.npy claims to have 10,000,000,000,000 bytes"),
    "a little too long": (_with("fog.npy", np.zeros((11, 32, 32, 3), np.uint8)), "fog.npy claims to have 33,920"),
    "twice": (lambda members: _claiming(0) + _tar(members), "fog.npy is there twice"),
    "a row short": (_with("fog.npy", _IMAGES[1:]), "fog.npy: expected .10, 32, 32, 3. uint8"),
    "floats": (_with("fog.npy", np.zeros((5, 16, 16, 3))), "fog.npy: expected .* float64"),
    "objects": (_with("fog.npy", np.array([{}] * 10)), "fog.npy: cannot be read as an array"),
    "no header": (lambda members: members | {f"{FOLDER}/fog.npy": bytes(30_848)}, "fog.npy: cannot be read as an arr"),
    "no labels": (lambda members: dict(list(members.items())[1:]), "labels.npy missing"),
    "labels in another order": (_with("labels.npy", np.repeat([3, 8], 5)), "but the repeats differ"),
    "NaN labels": (_with("labels.npy", np.full(10, np.nan)), "labels.npy: expected a row of integers"),
    "object labels": (_with("labels.npy", np.array([None] * 10)), "labels.npy: cannot be read as an array"),
    "labels of fewer images": (_with("labels.npy", LABELS[::2]), "expected .5, 32, 32, 3. uint8"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_a_bad_archive_is_refused_in_one_line_and_leaves_nothing(tmp_path, server, offer, command, case):
    spoil, message = _BROKEN[case]
    spoilt = spoil(_members("cifar10-c"))
    offer(spoilt if isinstance(spoilt, bytes) else _tar(spoilt))
    root = tmp_path / "within" / "root"
    root.mkdir(parents=True)
    (root / ARCHIVE).write_bytes(server.content)
    with pytest.raises(DataError, match=message):
        fetching.fetch("cifar10-c", root, lambda *progress: None)
    status, _, errors = command("cifar10-c", "--data", root)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"raycnn: {root / ARCHIVE}: not what it should be (")
    assert [path.name for path in tmp_path.rglob("*") if not path.name.startswith(".")] == ["within", "root", ARCHIVE]


def test_an_archive_with_another_checksum_is_not_even_opened(tmp_path, server, offer, command):
    offer(_tar(_members("cifar10-c")))
    (tmp_path / ARCHIVE).write_bytes(_claiming(10**13))
    status, _, errors = command("cifar10-c", "--data", tmp_path)
    assert status == 2
    assert (
        errors
        == f"raycnn: {tmp_path / ARCHIVE}: not the official archive (its MD5 differs). Delete it and start "
        + ("again.\n")
    )


def test_members_beside_the_files_are_left_out(tmp_path, server, offer, command):
    beside: Members = {"../evil": b"x", "/tmp/evil": b"x", f"{FOLDER}/README.txt": b"x", f"{FOLDER}/._fog.npy": b"x"}
    offer(_tar(beside | _members("cifar10-c")))
    assert command("cifar10-c", "--data", tmp_path / "root")[0] == 0
    assert len(list((tmp_path / "root" / FOLDER).iterdir())) == 21
    assert not list(tmp_path.rglob("evil"))


_IN_THE_WAY: dict[str, tuple[Callable[[Path], object], str]] = {
    "a part of the files": (lambda folder: (folder / "fog.npy").unlink(), "fog.npy missing, so it is not all of"),
    "torn files": (lambda folder: (folder / "fog.npy").write_bytes(b"x"), "fog.npy: cannot be read as an array"),
    "generated files": (lambda folder: (folder / "manifest.json").write_text("{}"), "was generated by raycnn corrupt"),
    "fewer images": (
        lambda folder: [np.save(file, np.load(file)[::2]) for file in folder.glob("*.npy")],
        "holds 1 images, CIFAR-10-C has 2",
    ),
}


@pytest.mark.parametrize("case", _IN_THE_WAY)
def test_what_stands_in_the_way_is_said_and_not_touched(tmp_path, server, offer, command, case):
    spoil, message = _IN_THE_WAY[case]
    offer(_tar(_members("cifar10-c")))
    command("cifar10-c", "--data", tmp_path)
    spoil(tmp_path / FOLDER)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[!.]*")}
    status, _, errors = command("cifar10-c", "--data", tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors
    assert f"Move it away to have {FOLDER} fetched here, or name another folder with --data." in errors
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[!.]*")} == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, command):
    (tmp_path / "file").touch()
    status, _, errors = command("cifar10-c", "--data", tmp_path / "file")
    assert (status, errors.count("\n")) == (2, 1)


def test_an_unknown_name_is_one_line(command):
    assert command("cifar10-d")[::2] == (
        2,
        "raycnn: cifar10-d: is not known. Choose from cifar10, cifar100, cifar10-c, cifar10-p, cifar100-c.\n",
    )


# In processes of their own.

PROGRAM = """
import json, sys
from raycnn.robustness.fetching import OFFICIAL, Official
OFFICIAL["cifar10-c"] = Official(*json.loads(sys.argv.pop(1)))
from raycnn.commands import main
main()
"""


def _start(root: Path) -> subprocess.Popen[str]:
    official = OFFICIAL["cifar10-c"]
    given = json.dumps([official.url, official.md5, official.n])
    command = [sys.executable, "-c", PROGRAM, given, "fetch", "cifar10-c", "--data", str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_download_once(tmp_path, server, offer):
    offer(_tar(_members("cifar10-c")))
    server.pause_s = 0.5
    processes = [_start(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert server.requests == [None]
    assert len([output for output, _ in outputs if ": complete, 20 files" in output]) == 1
    assert len([output for output, _ in outputs if ": already complete, 20 files" in output]) == 1


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_the_part_says_how_to_resume_and_resumes(tmp_path, server, offer, kind):
    offer(_tar(_members("cifar10-c")))
    server.hold_at = 300_000
    process = _start(tmp_path)
    part = tmp_path / f"{ARCHIVE}.part"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 200_000:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(kind)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, (output, errors)
    assert errors == (
        "\nInterrupted; what has been downloaded is kept. Resume with:\n"
        f"  {invocation.command('fetch', 'cifar10-c', '--data', tmp_path)}\n"
    )
    had = part.stat().st_size
    assert had >= 200_000
    server.hold_at = None
    again = _start(tmp_path)
    output, errors = again.communicate(timeout=60)
    assert (again.returncode, errors) == (0, "")
    assert server.requests == [None, f"bytes={had}-"]
