"""A run with a URI: what is copied, when, and what is refused. A directory stands for the object store."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raycnn.errors import ClusterError, RaycnnError
from raycnn.search import mirror
from raycnn.search.mirror import mirrored, working_directory
from raycnn.search.rundir import held, write_manifest


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
    manifest = json.loads((there / "manifest.json").read_text())
    (there / "manifest.json").write_text(json.dumps(manifest | {"started": "2020-02-02T00:00:00+00:00"}))
    with pytest.raises(ClusterError, match=r"holds a search of 2020-02-02.* Move the directory away"):
        work(tmp_path / "a", there.as_uri(), "two\n")
    assert (tmp_path / "a/study.journal").read_text() == "one\n"
    assert not (there / "run.holder.json").exists(), "who is refused holds nothing"


def test_a_second_driver_is_refused_until_the_first_is_silent(tmp_path, there):
    there.mkdir(parents=True)
    holder = there / "run.holder.json"
    other = {"pid": 1, "host": "far", "since": "2020-02-02T00:00:00+00:00"}
    holder.write_text(json.dumps(other | {"renewed": time.time()}))
    with pytest.raises(ClusterError, match=r"is held by process 1 on far since 2020.* if it is dead, \d+ s are enough"):
        work(tmp_path / "a", there.as_uri(), "one\n")
    assert not (there / "study.journal").exists()
    holder.write_text(json.dumps(other | {"renewed": time.time() - mirror.SILENCE_S - 1}))
    work(tmp_path / "a", there.as_uri(), "one\n")
    assert (there / "study.journal").read_text() == "one\n"


def test_who_was_silent_and_replaced_copies_nothing_more(tmp_path, there):
    with held(tmp_path / "a"), mirrored(tmp_path / "a", there.as_uri(), warned):
        (tmp_path / "a/study.journal").write_text("one\n")
        holder = there / "run.holder.json"
        holder.write_text(json.dumps(json.loads(holder.read_text()) | {"pid": 1}))
    assert not (there / "study.journal").exists()
    assert holder.exists()


def test_it_is_copied_while_the_search_runs_and_its_loss_is_told_once(tmp_path, there, monkeypatch):
    monkeypatch.setattr(mirror, "PERIOD_S", 0.05)
    told: list[str] = []

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

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


def test_the_work_is_done_in_runs():
    assert working_directory("s3://bucket/team/joint/?region=eu-central-1") == Path("runs/joint")
