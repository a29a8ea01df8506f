"""What is looked at before a search starts: that it is found, all of it, and that nothing is changed by looking."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from raycnn.errors import ClusterError, DataError, DiskError, RaycnnError, SpecError
from raycnn.run_files import write_spec
from raycnn.search.checks import Problems, check_images, check_start, rehearse, require_room
from raycnn.search.resources import Resources
from raycnn.search.rundir import is_abandoned, refuse_unholdable, write_manifest
from raycnn.search.study import Study
from raycnn.spec.search import SearchSpec

LAPTOP = Resources(((2.0, 0.0),))


def search_of(**changes: object) -> SearchSpec:
    return SearchSpec.model_validate(
        {
            "name": "small",
            "data": {"name": "shapes", "validation": 20, "train_images": 100, "test_images": 20},
            "model": "fastnet",
            "budget": {"epochs": 2, "batch_size": 20},
            "space": {
                "regularizers": {"cutout": {"size_px": {"type": "int", "low": 2, "high": 10}}},
                "optimizer": {"sgd": {"lr": {"type": "float", "low": 0.1, "high": 0.2}}},
            },
        }
        | changes
    )


def told(problems: Problems) -> list[str]:
    with pytest.raises(RaycnnError) as raised:
        problems.refuse()
    return str(raised.value).splitlines()


def everything_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_one_problem_is_raised_as_it_is_and_several_with_a_line_for_each():
    problems = Problems()
    assert problems.of(lambda: 7) == 7
    problems.refuse()

    def missing() -> None:
        raise DataError("the images are missing")

    def full() -> None:
        raise DiskError("the disk is full")

    assert problems.of(missing) is None
    problems.of(missing)
    with pytest.raises(DataError, match=r"^the images are missing$"):
        problems.refuse()
    problems.of(full)
    assert told(problems) == ["the images are missing", "the disk is full"]


def test_a_start_is_refused_for_all_of_its_reasons_at_once(tmp_path: Path):
    wrong = search_of(
        model="resnet50",
        trainer={"workers": 4, "gpus_per_worker": 1},
        search={"constraints": ["cutout.size_px > 100"]},
    )
    problems = Problems()
    check_start(problems, wrong, tmp_path / "run", (tmp_path / "nowhere",), LAPTOP, here=True)
    lines = told(problems)
    for beginning in (
        "model: resnet50 needs images of at least 64 px",
        "trainer: a trial needs",
        "--from ",
        "search.constraints: ",
    ):
        assert sum(line.startswith(beginning) for line in lines) == 1, lines
    assert len(lines) == 4
    assert not (tmp_path / "run").exists()


def test_a_grid_of_which_no_point_keeps_the_constraints_is_refused(tmp_path: Path):
    space = {"regularizers": {"label_smoothing": {"choice": [0.0, 0.1]}}, "optimizer": {"sgd": {"lr": 0.1}}}
    constraint = {"sampler": "grid", "constraints": ["label_smoothing > 0.5"]}
    with pytest.raises(SpecError, match="no point of the grid keeps them all"):
        rehearse(search_of(space=space, search=constraint), tmp_path / "run", ())


def test_a_rehearsal_leaves_the_study_as_it_was(tmp_path: Path):
    study = Study(tmp_path, search_of())
    asked = study.ask()
    assert asked
    before = everything_below(tmp_path)
    rehearsal = rehearse(search_of(), tmp_path, (), draws=5)
    assert everything_below(tmp_path) == before
    assert rehearsal.finished == 0
    assert rehearsal.settings[0] == asked.spec  # that trial would go on
    assert len(rehearsal.settings) == 5


def test_images_are_refused_for_the_batch_and_for_being_others(tmp_path: Path):
    write_manifest(tmp_path, {"data": {"digest": "a", "split_digest": "b"}})
    facts = {"digest": "x", "split_digest": "b"}
    problems = Problems()
    check_images(problems, search_of(), tmp_path, tmp_path, 19, 10, facts)
    lines = told(problems)
    assert lines[0] == "budget.batch_size: 20 is more than the 19 training images. Lower it."
    assert "the images are others than they were" in lines[1]
    enough = Problems()
    check_images(enough, search_of(), tmp_path, tmp_path, 20, 10, {})
    enough.refuse()


def test_a_disk_without_room_is_refused_also_for_a_directory_that_is_not_made_yet(small_disk: Path):
    require_room(small_disk / "runs" / "new", 10_000_000, "the search takes")
    with pytest.raises(DiskError, match=r"the search takes 1 GB, .* are free"):
        require_room(small_disk / "runs" / "new", 1_000_000_000, "the search takes")


def test_looking_whether_a_run_is_held_changes_nothing(tmp_path: Path):
    refuse_unholdable(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    lock = tmp_path / "run.lock"
    lock.touch()
    before = everything_below(tmp_path)
    refuse_unholdable(tmp_path)
    with lock.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ClusterError, match="is held by another process"):
            refuse_unholdable(tmp_path)
    refuse_unholdable(tmp_path)
    assert everything_below(tmp_path).keys() == before.keys()
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match="cannot be written"):
        refuse_unholdable(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_directory_of_somebody_else_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        child = os.fork()
        if not child:
            os.setuid(65534)
            try:
                refuse_unholdable(Path(folder, "run"))
            except ClusterError as error:
                os._exit(7 if "cannot be written (Permission denied)" in str(error) else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_looking_whose_a_directory_is_removes_nothing(tmp_path: Path):
    write_spec(tmp_path, search_of())
    before = everything_below(tmp_path)
    assert not is_abandoned(tmp_path, search_of())
    assert is_abandoned(tmp_path, search_of(model="resnet18"))
    assert everything_below(tmp_path) == before
