"""Files are written whole or not at all."""

import ast
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from raycnn.files import LEFTOVER_S, read_file, remove_leftovers, replacing, write_atomically


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("content", "found"), [("größe\n", "größe\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_text_is_utf_8_and_bytes_are_as_given_and_nothing_is_left_beside(tmp_path, content, found):
    write_atomically(tmp_path / "a", "before")
    write_atomically(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == found
    assert _names(tmp_path) == ["a"]


def test_what_killed_processes_have_left_goes_and_what_is_being_written_stays(tmp_path):
    (tmp_path / "trials").mkdir()
    old, new = (tmp_path / "trials" / f"checkpoint.pt.{number}-a.part" for number in (1, 2))
    for path in (old, new, tmp_path / "a"):
        path.touch()
    os.utime(old, (0, time.time() - LEFTOVER_S - 5))
    os.utime(tmp_path / "a", (0, 0))
    remove_leftovers(tmp_path)
    assert not old.exists()
    assert new.exists()
    assert (tmp_path / "a").exists()


def test_what_is_no_regular_file_or_too_long_is_not_read_nor_waited_for(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "a", "longer than 4 bytes"),
        (tmp_path / "pipe", "regular"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(OSError, match=words):
            read_file(path, 4)


def test_the_mode_is_what_the_umask_says(tmp_path):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "a", "text")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_an_error_leaves_the_old_content_and_nothing_beside(tmp_path):
    write_atomically(tmp_path / "a", "old")

    def interrupted() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert _names(tmp_path) == ["a"]


def test_a_full_disk_passes_with_its_number_and_leaves_the_old_content(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(tmp_path / "a", "new")
    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert _names(tmp_path) == ["a"]


def test_a_streaming_writer_may_seek_in_it(tmp_path):
    with replacing(tmp_path / "a.npy") as file:
        np.save(file, np.arange(5))
        file.seek(0)
        assert file.read(6) == b"\x93NUMPY"
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2, 3, 4]


def test_many_writers_of_one_file_do_not_meet(tmp_path):
    """As `raycnn report` beside `raycnn watch`, which shared one temporary name."""
    contents = {f"{index}" * 100_000 for index in range(8)}
    failed = []

    def write(content: str) -> None:
        try:
            for _ in range(20):
                write_atomically(tmp_path / "a", content)
                assert (tmp_path / "a").read_text(encoding="utf-8") in contents
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert _names(tmp_path) == ["a"]


def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, "old")
    code = (
        "import os, signal; from pathlib import Path; from raycnn.files import replacing\n"
        f"with replacing(Path({str(path)!r})) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    assert path.read_text(encoding="utf-8") == "old"
    assert all(name == "a" or name.endswith(".part") for name in _names(tmp_path))


SHORT_LIVED = ("search/nodes.py", "search/head_files.py")  # a word to be found and removed; a node's own copies
NOT_FILES = ("webbrowser", "tarfile", "Image", "os")  # modules whose `open` is another


def test_every_text_file_names_its_encoding_and_no_file_is_written_in_place():
    """The locale's would be taken otherwise, and a run would not be read where another one holds."""
    root = Path(__file__).parents[1] / "raycnn"
    wrong = []
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and (
                _without_encoding(call) or (name not in SHORT_LIVED and _in_place(call))
            ):
                wrong.append(f"{name}:{call.lineno}")
    assert not wrong


def _name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        of = call.func.value
        return "" if isinstance(of, ast.Name) and of.id in NOT_FILES else call.func.attr
    return getattr(call.func, "id", "")


def _without_encoding(call: ast.Call) -> bool:
    name, named = _name(call), {keyword.arg for keyword in call.keywords}
    if "encoding" in named:
        return False
    if name in ("run", "Popen", "check_output"):
        return bool(named & {"text", "universal_newlines"})
    if name == "open":
        modes = [one.value for one in ast.walk(call) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return not any("b" in mode for mode in modes)
    return name == "write_text" or (name == "read_text" and not call.args)


def _in_place(call: ast.Call) -> bool:
    return _name(call) in ("write_text", "write_bytes", "save_file")
