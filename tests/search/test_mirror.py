"""A run with a URI: what is copied, when, and what is refused. A directory stands for the object store."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raycnn.data.remote import directory_of, full_place, local_root
from raycnn.errors import ClusterError, RaycnnError
from raycnn.search import mirror
from raycnn.search.hold import SILENCE_S
from raycnn.search.mirror import mirrored, working_directory
from raycnn.search.rundir import held, write_manifest
from raycnn.spec.data import DataSpec


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "bucket" / "joint"


def warned(text: str) -> None:
    raise AssertionError(f"warned of {text}")


def work(run: Path, uri: str, journal: str, **files: str) -> None:
    """A driver that writes `journal` and `files`."""
    with held(run), mirrored(run, uri, warned):
        if not (run / "manifest.json").exists():
            write_manifest(run, {})
        (run / "study.journal").write_text(journal)
        for name, text in files.items():
            path = run / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def renewed(there: Path) -> float:
    return json.loads((there / "run.holder.json").read_text())["renewed"]


def fall_silent(there: Path) -> None:
    """As if the driver that holds the URI slept."""
    holder = there / "run.holder.json"
    silent = json.loads(holder.read_text())
    holder.write_text(json.dumps(silent | {"renewed": silent["renewed"] - SILENCE_S - 1}))


def test_a_run_is_copied_and_comes_back_on_another_machine(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\ntwo\nto", trials_0_metrics="epoch 1", cache_images="many")
    assert (there / "trials/0/metrics").read_text() == "epoch 1"
    assert (there / "study.journal").read_text() == "one\ntwo\n", "a line that is being written is not copied"
    assert not list(there.glob("cache*")), "what can be made again stays"
    assert not list(there.glob("run.*")), "nobody holds it any more"
    with held(tmp_path / "b"), mirrored(tmp_path / "b", there.as_uri(), warned):
        assert (tmp_path / "b/study.journal").read_text() == "one\ntwo\n"
        assert (tmp_path / "b/trials/0/metrics").read_text() == "epoch 1"


def test_the_longer_of_two_copies_counts(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n")
    with held(tmp_path / "b"), mirrored(tmp_path / "b", there.as_uri(), warned):
        (tmp_path / "b/study.journal").write_text("one\ntwo\n")
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), warned):
        assert (tmp_path / "a/study.journal").read_text() == "one\ntwo\n"
        (tmp_path / "a/study.journal").write_text("one\ntwo\nthree\n")
    there.joinpath("study.journal").write_text("one\n")  # as if the driver had been killed before it copied the rest
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), warned):
        assert (tmp_path / "a/study.journal").read_text() == "one\ntwo\nthree\n"
    assert (there / "study.journal").read_text() == "one\ntwo\nthree\n"


def test_another_search_at_the_uri_is_refused(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n")
    (there / "study.journal").write_text("first\nsecond\n")
    with pytest.raises(ClusterError, match=r"holds another search than .* Move the directory away"):
        work(tmp_path / "a", there.as_uri(), "two\n")
    assert (tmp_path / "a/study.journal").read_text() == "one\n"
    assert not (there / "run.holder.json").exists(), "who is refused holds nothing"


def test_a_run_that_was_interrupted_before_its_manifest_goes_on(tmp_path, there):
    def interrupted(journal: str) -> None:
        with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), warned):
            (tmp_path / "a/study.journal").write_text(journal)

    interrupted("one\n")
    interrupted("one\ntwo\n")
    assert (there / "study.journal").read_text() == "one\ntwo\n"


def test_what_another_driver_did_after_the_last_trial_comes_back(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n", finals_0_checkpoint="half", finals_1_checkpoint="half")
    with held(tmp_path / "b"), mirrored(tmp_path / "b", there.as_uri(), warned):
        (tmp_path / "b/finals/0/checkpoint").write_text("full")
        (tmp_path / "b/report.html").write_text("all of it")
    os.utime(there / "finals/0/checkpoint", (later := time.time() + 5, later))
    (tmp_path / "a/finals/1/checkpoint").write_text("more of it")
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), warned):
        assert (tmp_path / "a/finals/0/checkpoint").read_text() == "full"
        assert (tmp_path / "a/report.html").read_text() == "all of it"
        assert (tmp_path / "a/finals/1/checkpoint").read_text() == "more of it", "only here has it changed"
    assert (there / "finals/1/checkpoint").read_text() == "more of it"


def test_of_what_changed_here_and_there_the_newer_counts(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n", finals_0="a", finals_1="a")
    for name, age_s in (("0", 3600), ("1", -3600)):
        (tmp_path / "a/finals" / name).write_text("killed before it was copied")
        (there / "finals" / name).write_text("another driver's")
        os.utime(there / "finals" / name, (time.time() - age_s, time.time() - age_s))
    work(tmp_path / "a", there.as_uri(), "one\n")
    for place in (tmp_path / "a", there):
        assert (place / "finals/0").read_text() == "killed before it was copied"
        assert (place / "finals/1").read_text() == "another driver's"


def test_what_is_the_same_is_not_copied_again_nor_what_was_deleted_brought_back(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n", trials_0_metrics="epoch 1", trials_1_metrics="epoch 1")
    before = (there / "trials/0/metrics").stat(), (tmp_path / "a/trials/0/metrics").stat()
    (tmp_path / "a/trials/1/metrics").unlink()
    work(tmp_path / "a", there.as_uri(), "one\n")
    assert ((there / "trials/0/metrics").stat(), (tmp_path / "a/trials/0/metrics").stat()) == before
    assert not (tmp_path / "a/trials/1/metrics").exists()
    (there / "trials/0/metrics").unlink()
    work(tmp_path / "a", there.as_uri(), "one\n")
    assert (there / "trials/0/metrics").exists(), "what is gone there is copied again"


@pytest.mark.parametrize("last", ["3\n4\n", "3\n"])
def test_where_both_went_on_the_uri_counts_and_the_own_work_is_set_aside(tmp_path, there, last):
    """A driver that was lost before it could copy its trial 1, and one that began another."""
    work(tmp_path / "a", there.as_uri(), "1\n", trials_0_checkpoint="0")
    work(tmp_path / "b", there.as_uri(), f"1\n{last}", trials_1_metrics="of b")
    for name, text in (("study.journal", "1\n2\n"), ("trials/1/checkpoint", "of a"), ("cache/images", "many")):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text(text)
    told: list[str] = []
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), told.append):
        assert (tmp_path / "a/study.journal").read_text() == f"1\n{last}"
        assert (tmp_path / "a/trials/0/checkpoint").read_text() == "0"
        assert [path.name for path in (tmp_path / "a/trials/1").iterdir()] == ["metrics"]
    (aside,) = tmp_path.glob("a-*")
    assert str(aside) in told[0]
    assert (aside / "study.journal").read_text() == "1\n2\n"
    assert (aside / "trials/1/checkpoint").read_text() == "of a"
    assert (tmp_path / "a/cache/images").exists()


def test_a_second_driver_is_refused_until_the_first_is_silent(tmp_path, there):
    there.mkdir(parents=True)
    holder = there / "run.holder.json"
    other = {"pid": 1, "host": "far", "since": "2020-02-02T00:00:00+00:00"}
    holder.write_text(json.dumps(other | {"renewed": time.time()}))
    with pytest.raises(ClusterError, match=r"is held by process 1 on far since 2020.* if it is dead, \d+ s are enough"):
        work(tmp_path / "a", there.as_uri(), "one\n")
    assert not (there / "study.journal").exists()
    holder.write_text(json.dumps(other | {"renewed": time.time() - SILENCE_S - 1}))
    work(tmp_path / "a", there.as_uri(), "one\n")
    assert (there / "study.journal").read_text() == "one\n"


def test_who_was_silent_and_replaced_copies_nothing_more(tmp_path, there):
    told: list[str] = []
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), told.append):
        (tmp_path / "a/study.journal").write_text("one\n")
        holder = there / "run.holder.json"
        holder.write_text(json.dumps(json.loads(holder.read_text()) | {"pid": 1}))
    assert not (there / "study.journal").exists()
    assert json.loads(holder.read_text())["pid"] == 1
    assert len(told) == 1
    assert "is no longer held by this driver" in told[0]


def test_who_wakes_up_after_another_driver_has_finished_overwrites_nothing(tmp_path, there):
    told: list[str] = []
    work(tmp_path / "a", there.as_uri(), "one\n")
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), told.append):
        fall_silent(there)
        work(tmp_path / "b", there.as_uri(), "one\nb's\n")
        (tmp_path / "a/study.journal").write_text("one\na's\n")
    assert (there / "study.journal").read_text() == "one\nb's\n"
    assert "is no longer held by this driver" in told[0]


def test_who_wakes_up_in_the_middle_of_copying_copies_nothing_more(tmp_path, there, monkeypatch):
    """The sleep: while a file is read."""
    told: list[str] = []
    read = Path.read_bytes

    def sleeping(path: Path) -> bytes:
        if path == tmp_path / "a/large":
            fall_silent(there)
            work(tmp_path / "b", there.as_uri(), "one\nb's\n")
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now + SILENCE_S + 1)
        return read(path)

    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), told.append):
        (tmp_path / "a/study.journal").write_text("a's\n")
        (tmp_path / "a/large").write_text("large")
        monkeypatch.setattr(Path, "read_bytes", sleeping)
    assert (there / "study.journal").read_text() == "one\nb's\n"
    assert len(told) == 1


def test_a_search_whose_uri_is_no_longer_its_own_is_told_so_while_it_runs(tmp_path, there, monkeypatch):
    monkeypatch.setattr(mirror, "PERIOD_S", 0.05)
    told: list[str] = []
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), told.append):

        def is_told() -> bool:
            (there / "run.holder.json").unlink(missing_ok=True)
            return bool(told)

        until(is_told)
        (tmp_path / "a/study.journal").write_text("one\n")
        time.sleep(0.3)
    assert not (there / "study.journal").exists()
    assert len(told) == 1


def test_it_stays_held_while_much_is_copied(tmp_path, there, monkeypatch):
    """In both directions."""
    work(tmp_path / "a", there.as_uri(), "one\n")
    monkeypatch.setattr(mirror, "PERIOD_S", 0.3)
    listing, read = mirror.storage.files_below, Path.read_bytes

    def wait() -> None:
        before = renewed(there)
        until(lambda: renewed(there) > before)

    def slow(path: Path) -> bytes:
        if path == tmp_path / "b/large":
            wait()
        return read(path)

    monkeypatch.setattr(mirror.storage, "files_below", lambda *arguments: (wait(), listing(*arguments))[1])
    with held(tmp_path / "b"), mirrored(tmp_path / "b", there.as_uri(), warned):
        assert (tmp_path / "b/study.journal").exists()
        (tmp_path / "b/large").write_text("large")
        monkeypatch.setattr(Path, "read_bytes", slow)
    assert (there / "large").exists()


def test_a_file_at_the_uri_is_replaced_whole(tmp_path, there):
    work(tmp_path / "a", there.as_uri(), "one\n")
    os.link(there / "study.journal", tmp_path / "reading")  # who has it open reads on what it was
    (there / "study.journal.part").write_text("on")  # of one that was killed
    work(tmp_path / "a", there.as_uri(), "one\ntwo\n")
    assert (tmp_path / "reading").read_text() == "one\n"
    assert (there / "study.journal").read_text() == "one\ntwo\n"
    assert not list(there.glob("*.part"))


def test_it_is_copied_while_the_search_runs_and_its_loss_is_told_once(tmp_path, there, monkeypatch):
    monkeypatch.setattr(mirror, "PERIOD_S", 0.05)
    told: list[str] = []

    def search(run: Path) -> None:
        with held(run), mirrored(run, there.as_uri(), told.append):
            (run / "study.journal").write_text("one\n")
            until((there / "study.journal").exists)
            there.rename(tmp_path / "gone")  # in one go: it is being written to
            there.write_text("no directory any more")
            (run / "study.journal").write_text("one\ntwo\n")
            until(lambda: told)
            time.sleep(0.3)

    with pytest.raises(RaycnnError, match=r"could not be brought up to date .* the same command copies it"):
        search(tmp_path / "a")
    assert len(told) == 1
    assert "the search goes on in" in told[0]


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://", "nosuch://bucket/x", "s3://bucket/x?endpoint=1&bad"])
def test_a_uri_that_cannot_be_used_is_told_in_a_line(tmp_path, uri):
    def search(run: Path) -> None:
        working_directory(uri)
        with held(run), mirrored(run, uri, warned):
            pass

    with pytest.raises(ClusterError, match=r"^--run .*\. (Write it as|Check the URI)"):
        search(tmp_path / "a")


def test_a_secret_in_the_uri_is_refused_and_not_repeated():
    with pytest.raises(ClusterError, match="has a password") as error:
        working_directory("s3://key:secret@bucket/joint")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("flag", "use"),
    [
        ("--run", working_directory),
        ("--data", full_place),
        ("--data", directory_of),
        ("--data", lambda uri: local_root(uri, DataSpec(name="cifar10"))),
    ],
)
def test_what_is_no_uri_is_refused_and_not_repeated(flag, use):
    with pytest.raises(RaycnnError, match=rf"^{flag}: is no URI\. Write it as s3://BUCKET/NAME\.$"):
        use("s3://key:secret@[b]/x")


def test_the_work_is_done_in_runs():
    assert working_directory("s3://bucket/team/joint/?region=eu-central-1") == Path("runs/joint")
