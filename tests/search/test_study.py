"""The study: what it asks, keeps, and takes up again after a kill."""

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from raycnn.errors import DataError, SpecError
from raycnn.search.front import finalists, fronts
from raycnn.search.importance import importances
from raycnn.search.journal import read_trials
from raycnn.search.seeds import derived_seed
from raycnn.search.study import Asked, Study, baseline_spec
from raycnn.search.table import trials_table
from raycnn.spec.reading import search_from_text
from raycnn.spec.search import SearchSpec

SPACE = """
name: t
data: {name: shapes}
model: fastnet
budget: {epochs: 9, batch_size: 256}
space:
  regularizers:
    mixup: {choice: {off: {}, on: {alpha: {type: float, low: 0.1, high: 1.0, log: true}}}}
    label_smoothing: {choice: [0.0, 0.1]}
  optimizer:
    choice:
      sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}
      adamw: {lr: {type: float, low: 1e-4, high: 1e-2, log: true}}
search: {trials: 30, startup_trials: 4}
"""
METRICS = {"val/clean_error": 0.3, "val/corruption_error": 0.5}


@pytest.fixture
def spec() -> SearchSpec:
    return search_from_text(SPACE, "t.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPACE)
    return tmp_path


def test_first_trial_is_the_untuned_baseline(run, spec):
    asked = Study(run, spec).ask()
    assert asked
    assert asked.kind == "baseline"
    assert asked.spec.regularizers.cutout is asked.spec.regularizers.mixup is asked.spec.regularizers.rotation is None
    assert asked.spec.optimizer.sgd
    assert asked.spec.optimizer.sgd.lr == 0.2  # 0.1 for 128 images, linearly


def test_baseline_takes_the_optimizer_that_the_file_gives():
    spec = search_from_text(SPACE + "baseline: {adamw: {lr: 0.001}}\n", "t.yaml")
    optimizer = baseline_spec(spec).optimizer
    assert optimizer.sgd is None
    assert optimizer.adamw
    assert optimizer.adamw.lr == 0.001


def test_study_holds_exactly_the_wished_number_of_finished_trials_whatever_their_state(run, spec):
    study = Study(run, spec)
    while asked := study.ask():
        match asked.number % 3:
            case 0:
                study.complete(asked.number, METRICS, {"epochs": 9})
            case 1:
                study.prune(asked.number, METRICS, {"epochs": 3})
            case 2:
                study.fail(asked.number, "RuntimeError: no luck", {}, {"epochs": 0})
    states = [trial.state for trial in read_trials(run)]
    assert len(states) == 30
    assert [states.count(state) for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)] == [10, 10, 10]
    table = trials_table(run)
    rows = table.to_dict("records")
    assert [row["state"] for row in rows[:3]] == ["COMPLETE", "PRUNED", "FAIL"]
    assert rows[2]["reason"] == "RuntimeError: no luck"
    assert any(row["param:mixup.alpha"] != row["param:mixup.alpha"] for row in rows)  # where the branch was not taken


def test_running_trials_of_a_killed_writer_come_again_first_with_the_same_spec(run, spec):
    study = Study(run, spec)
    first = [study.ask() for _ in range(3)]
    study.complete(1, METRICS, {})
    with (run / "study.journal").open("ab") as file:
        file.write(b'{"op_code": 6, "wor')  # the kill tore a line
    again = Study(run, spec)
    assert [again.ask(), again.ask()] == [first[0], first[2]]
    new = again.ask()
    assert new
    assert new.number == 3


def test_resumed_search_does_not_ask_its_first_trials_again(run, spec):
    before = Study(run, spec)
    old = [before.ask() for _ in range(4)]
    for asked in old:
        assert asked
        before.complete(asked.number, METRICS, {})
    new = Study(run, spec).ask()
    assert new
    assert new.parameters not in [asked.parameters for asked in old if asked]


def test_extended_search_goes_on(run, spec):
    study = Study(run, spec)
    while asked := study.ask():
        study.prune(asked.number, METRICS, {})
    longer = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 32})})
    extended = Study(run, longer)
    numbers = [asked.number for asked in (extended.ask(), extended.ask()) if asked]
    assert numbers == [30, 31]
    assert extended.ask() is None


def test_trials_have_seeds_of_their_own_that_depend_on_the_search_seed(run, spec):
    study = Study(run, spec)
    seeds = {asked.spec.seed for asked in (study.ask(), study.ask(), study.ask()) if asked}
    assert len(seeds) == 3
    assert derived_seed(0, "trial 1") in seeds
    assert derived_seed(0, "trial 1") != derived_seed(1, "trial 1")


def test_importance_finds_the_parameter_that_matters(run, spec):
    at_random = spec.model_copy(update={"search": spec.search.model_copy(update={"sampler": "random"})})
    study = Study(run, at_random)
    while asked := study.ask():
        error = 0.1 if asked.parameters.get("optimizer") == "sgd" else 0.9
        error += 0.01 * (asked.number % 5)
        study.complete(asked.number, {"val/clean_error": error, "val/corruption_error": 0.5}, {})
    shares = importances(run)["val/clean_error"]
    assert set(shares) >= {"optimizer", "mixup", "label_smoothing"}
    assert shares["optimizer"] > shares["label_smoothing"]


def test_fronts_of_a_hand_worked_case():
    values = [(1.0, 4.0), (2.0, 2.0), (4.0, 1.0), (3.0, 3.0), (4.0, 4.0)]
    assert fronts(values) == [[0, 1, 2], [3], [4]]


def test_equal_trials_share_a_front():
    assert fronts([(1.0, 1.0), (1.0, 1.0)]) == [[0, 1]]


def test_finalists_are_the_knee_then_the_best_of_each_objective_then_the_next_front(run, spec):
    study = Study(run, spec)
    values = [(9.0, 9.0), (0.1, 0.4), (0.2, 0.2), (0.4, 0.1), (0.3, 0.3)]  # the first is the baseline
    for clean, corrupted in values:
        asked = study.ask()
        assert asked
        study.complete(asked.number, {"val/clean_error": clean, "val/corruption_error": corrupted}, {})
    assert [trial.number for trial in finalists(study.trials(), 3)] == [2, 1, 3]
    assert [trial.number for trial in finalists(study.trials(), 9)] == [2, 1, 3, 4]


def test_spread_finalists_are_the_knee_then_the_farthest_from_those_before_them(run, spec):
    study = Study(run, spec)
    front = [(0.0, 1.0), (0.1, 0.6), (0.3, 0.3), (0.32, 0.29), (0.6, 0.1), (1.0, 0.0)]
    for clean, corrupted in [(9.0, 9.0), *front, (0.4, 0.4)]:  # the baseline, the front, one behind it
        asked = study.ask()
        assert asked
        study.complete(asked.number, {"val/clean_error": clean, "val/corruption_error": corrupted}, {})
    found = [trial.number for trial in finalists(study.trials(), 9, "spread")]
    assert found[0] == 3  # the least sum
    assert set(found[1:3]) == {1, 6}  # both ends
    assert set(found[3:5]) == {2, 5}
    assert found[5:] == [4, 7]  # next to the knee; behind the front


def test_study_without_completed_trials_has_no_finalists(run, spec):
    study = Study(run, spec)
    asked = study.ask()
    assert asked
    study.complete(asked.number, METRICS, {})
    assert finalists(study.trials(), 3) == []


def changed(spec: SearchSpec, **search: Any) -> SearchSpec:
    return spec.model_copy(update={"search": spec.search.model_copy(update=search)})


def error_of(asked: Asked) -> dict[str, float]:
    """Made up: small for mixup of 0.4, and for the right learning rate of SGD."""
    error = 0.3 if asked.parameters.get("optimizer") == "adamw" else 0.1
    error += 0.1 * abs(math.log10(asked.parameters.get("optimizer.sgd.lr", 1.0) / 0.1))
    return {
        "val/clean_error": error,
        "val/corruption_error": 1.2 * error + 0.1 * (asked.parameters.get("mixup") == "off"),
    }


def run_out(study: Study) -> list[Asked]:
    found = []
    while asked := study.ask():
        study.complete(asked.number, error_of(asked), {"seconds": 1.0})
        found.append(asked)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii", "nsgaiii", "qmc", "random"])
def test_every_sampler_serves_a_space_with_branches_and_asks_for_nothing_twice(run, spec, sampler):
    asked = run_out(Study(run, changed(spec, sampler=sampler, trials=16, population=6)))
    numbers = [one.number for one in asked]  # nsgaii and nsgaiii have children that are their parents: passed over
    assert len(numbers) == 16
    assert numbers == sorted(set(numbers))
    settings = [one.spec.model_copy(update={"seed": 0}) for one in asked]
    assert all(one not in settings[:place] for place, one in enumerate(settings))
    for one in asked[1:]:
        assert ("mixup.alpha" in one.parameters) == (one.parameters["mixup"] == "on")
    rows = trials_table(run).to_dict("records")
    for row, one in zip(rows, asked, strict=True):
        for name in ("mixup.alpha", "optimizer.sgd.lr", "optimizer.adamw.lr"):
            value = row[f"param:{name}"]
            assert value == one.parameters[name] if name in one.parameters else value != value


def test_cmaes_serves_numbers_and_one_objective(run):
    text = (
        SPACE.split("space:")[0] + "space: {optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}}}\n"
    )
    text += "search: {sampler: cmaes, trials: 25, startup_trials: 4, objectives: [val/clean_error]}\n"
    asked = run_out(Study(run, search_from_text(text, "t")))
    last = [abs(math.log10(one.parameters["optimizer.sgd.lr"] / 0.1)) for one in asked[-8:]]
    assert sum(last) / 8 < 0.5  # it has moved to where the error is low


def test_a_grid_is_searched_to_its_end_and_a_resumed_one_goes_on(run):
    text = SPACE.replace("{type: float, low: 0.1, high: 1.0, log: true}", "{choice: [0.2, 0.4]}")
    text = text.replace("{type: float, low: 0.01, high: 1.0, log: true}", "{choice: [0.1, 0.3]}")
    text = text.replace("{type: float, low: 1e-4, high: 1e-2, log: true}", "0.001")
    spec = search_from_text(text.replace("trials: 30", "trials: 99, sampler: grid"), "t")
    first = Study(run, spec)
    some = []
    for _ in range(7):
        asked = first.ask()
        assert asked
        first.complete(asked.number, error_of(asked), {})
        some.append(asked)
    second = Study(run, spec)
    rest = run_out(second)
    points = [tuple(sorted(one.parameters.items())) for one in [*some, *rest][1:]]
    assert len(points) == len(set(points)) == 3 * 2 * 3
    assert "every point of the grid" in second.exhausted


@pytest.mark.parametrize("sampler", ["tpe", "grid", "qmc"])
def test_what_was_begun_goes_on_as_it_was_whatever_has_changed_in_how_trials_are_trained(run, sampler):
    text = SPACE.replace("{type: float, low: 0.1, high: 1.0, log: true}", "{choice: [0.2, 0.4]}")
    text = text.replace("{type: float, low: 0.01, high: 1.0, log: true}", "{choice: [0.1, 0.3]}")
    text = text.replace("{type: float, low: 1e-4, high: 1e-2, log: true}", "0.001")
    spec = search_from_text(text.replace("trials: 30", f"trials: 8, sampler: {sampler}"), "t")
    study = Study(run, spec)
    begun = [study.ask() for _ in range(4)]
    later = spec.model_copy(update={"trainer": spec.trainer.model_copy(update={"precision": "fp32"})})
    study = Study(run, later)
    assert [study.ask() for _ in range(4)] == begun
    fresh = study.ask()
    assert fresh
    assert fresh.spec.precision == "fp32"
    assert fresh.parameters not in [one.parameters for one in begun if one]


def test_a_new_trial_begins_without_what_a_lost_run_left_under_its_number(run, spec):
    study = Study(run, spec)
    for number in (0, 1):
        left = run / "trials" / str(number) / "checkpoint.pt"
        left.parent.mkdir(parents=True)
        left.write_text("trained", encoding="utf-8")
    assert study.ask()
    assert not (run / "trials" / "0").exists()
    assert (run / "trials" / "before-0-0" / "checkpoint.pt").exists()
    assert "kept as before-0-0" in study.notes[0]
    assert (run / "trials" / "1").exists()
    (run / "trials" / "0").mkdir()
    assert Study(run, spec).ask()
    assert (run / "trials" / "0").exists(), "a trial that was begun has its checkpoints still"


def test_what_breaks_a_constraint_is_not_trained_and_does_not_count(run, spec):
    constrained = changed(spec, constraints=["optimizer.sgd.lr < 0.1", "optimizer.adamw.lr < 1e-3"], sampler="random")
    asked = run_out(Study(run, constrained))
    assert len(asked) == len(read_trials(run)) == 30
    assert all(one.parameters.get("optimizer.sgd.lr", 0) < 0.1 for one in asked)
    assert asked[-1].number > 29  # numbers of those passed over are left out


def test_constraints_that_nothing_keeps_are_told(run, spec):
    study = Study(run, changed(spec, constraints=["optimizer == 'muon'"]))
    assert study.ask()
    with pytest.raises(SpecError, match="100 settings in a row broke one"):
        study.ask()


def test_a_space_that_is_used_up_ends_the_search(run):
    text = SPACE.split("space:")[0] + "space: {optimizer: {sgd: {lr: {choice: [0.1, 0.3]}}}}\nsearch: {trials: 9}\n"
    study = Study(run, search_from_text(text, "t"))
    assert len(run_out(study)) == 3  # the baseline has 0.2
    assert "the space is used up" in study.exhausted


def test_a_space_that_a_constraint_nearly_uses_up_ends_the_search(run):
    text = SPACE.split("space:")[0]
    text += "space: {optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, step: 0.01}}}}\n"
    text += "search: {trials: 60, sampler: random, constraints: ['optimizer.sgd.lr < 0.5']}\n"
    study = Study(run, search_from_text(text, "t"))
    assert len(run_out(study)) > 40
    assert "the space is used up" in study.exhausted


RECIPE = """
name: r
data: {name: cifar10}
training:
  {model: resnet18, epochs: 9, batch_size: 128, regularizers: {mixup: {alpha: 0.5}}, optimizer: {sgd: {lr: 0.05}}}
"""


def test_settings_of_recipes_are_tried_right_after_the_baseline(run, spec):
    (run / "mine.yaml").write_text(RECIPE)
    study = Study(run, changed(spec, start=[run / "mine.yaml"]))
    baseline, first, second = study.ask(), study.ask(), study.ask()
    assert baseline
    assert first
    assert second
    assert baseline.kind == "baseline"
    assert first.parameters == {
        "mixup": "on",
        "mixup.alpha": 0.5,
        "label_smoothing": 0.0,
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.05,
    }
    assert first.spec.optimizer.chosen.lr == 0.05
    assert second.parameters != first.parameters


def test_the_sampler_learns_from_an_earlier_run_which_is_no_part_of_this_one(run, spec, tmp_path_factory):
    run_out(Study(run, spec))
    later = tmp_path_factory.mktemp("later")
    study = Study(later, changed(spec, trials=24), earlier=[run])
    asked = run_out(study)
    assert len(asked) == len(read_trials(later)) == 24
    assert asked[0].kind == "baseline"
    # No random start: the model knows of thirty trials, of which SGD's were the best.
    assert sum(one.parameters.get("optimizer") == "sgd" for one in asked[1:]) >= 16
    Study(later, spec, earlier=[run])  # the same command again: it resumes
    with pytest.raises(SpecError, match="has begun without it"):
        Study(later, spec, earlier=[run, run.parent])
    with pytest.raises(SpecError, match="has other objectives"):
        Study(tmp_path_factory.mktemp("x"), changed(spec, objectives=["val/clean_error"]), earlier=[run])
    with pytest.raises(SpecError, match="holds no search"):
        Study(tmp_path_factory.mktemp("y"), spec, earlier=[run.parent])


@pytest.mark.parametrize("damage", [b'{"op_code": 6, "wor', b"\0" * 4096, b'{"op_code": 6, "wor\0\0\0\0\n', b"\n"])
def test_a_torn_end_of_the_journal_is_cut_off_and_kept_aside(run, spec, damage):
    study = Study(run, spec)
    assert study.ask()
    study.complete(0, METRICS, {})
    journal = run / "study.journal"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(damage)
    again = Study(run, spec)
    assert journal.read_bytes() == whole
    assert (run / "study.journal.cut").read_bytes() == damage
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE]
    asked = again.ask()
    assert asked
    assert asked.number == 1


def test_a_journal_that_is_damaged_in_its_middle_is_refused_in_one_line(run, spec):
    study = Study(run, spec)
    assert study.ask()
    journal = run / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for damage in (b"garbage\n", b'{"op_code": 6, "worker_id": "x"}\n'):
        journal.write_bytes(b"".join([lines[0], damage, *lines[1:]]))
        with pytest.raises(DataError, match=r"study\.journal: .*damaged") as caught:
            Study(run, spec)
        assert "\n" not in str(caught.value)


def test_any_flipped_byte_of_the_journal_is_refused_and_nothing_is_trained_again_in_silence(run, spec):
    study = Study(run, spec)
    assert study.ask()
    study.complete(0, METRICS, {"epochs": 9})
    journal = run / "study.journal"
    whole = journal.read_bytes()
    for place in range(0, len(whole), 7):
        journal.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for read in (lambda: Study(run, spec).trials(), lambda: read_trials(run)):
            told = None
            try:
                told = [(trial.values, trial.user_attrs["metrics"]) for trial in read()]
            except DataError as error:
                refused = str(error)
                if len(refused.splitlines()) != 1:
                    raise
            # else the key of a check was hit: the record is as it was
            assert told in (None, [([0.3, 0.5], METRICS)])
    journal.write_bytes(whole)
    assert len(read_trials(run)) == 1


@pytest.mark.parametrize("damage", ["emptied", "deleted"])
def test_a_journal_that_is_lost_beside_its_trials_is_refused_and_they_stay(run, spec, damage):
    study = Study(run, spec)
    assert study.ask()
    (run / "trials" / "0").mkdir(parents=True)
    (run / "trials" / "0" / "checkpoint.pt").write_text("trained", encoding="utf-8")
    journal = run / "study.journal"
    journal.unlink() if damage == "deleted" else journal.write_bytes(b"")
    for read in (lambda: Study(run, spec), lambda: read_trials(run)):
        with pytest.raises(
            DataError, match=rf"study\.journal: is {'missing' if damage == 'deleted' else 'empty'}.*copy"
        ):
            read()
    assert (run / "trials" / "0" / "checkpoint.pt").exists()


def test_a_trial_that_the_study_does_not_know_is_set_aside_and_told(run, spec):
    study = Study(run, spec)
    for number in range(2):
        assert study.ask()
        (run / "trials" / str(number)).mkdir(parents=True)
        (run / "trials" / str(number) / "checkpoint.pt").write_text(str(number))
    assert not Study(run, spec).notes
    lines = (run / "study.journal").read_bytes().splitlines(keepends=True)
    begun = next(index for index, line in enumerate(lines) if b"spec" in line and b'"trial_id":1' in line)
    (run / "study.journal").write_bytes(b"".join(lines[:begun]))  # as where its end is lost
    again = Study(run, spec)
    assert again.notes == [f"{run}/trials/1: study.journal knows of no such trial; it is kept as before-0-1"]
    assert again.ask()
    assert again.ask()
    assert (run / "trials" / "before-0-1" / "checkpoint.pt").read_text() == "1"
    assert (run / "trials" / "0" / "checkpoint.pt").read_text() == "0"


def test_a_clock_that_goes_back_loses_nothing(run, spec, monkeypatch):
    study = Study(run, spec)
    assert study.ask()
    real = datetime.datetime

    class Earlier(real):
        @classmethod
        def now(cls, tz=None):
            return real.now(tz) - datetime.timedelta(days=400)

    monkeypatch.setattr("optuna.storages.journal._storage.datetime", Earlier)
    study.complete(0, METRICS, {"seconds": 1.0})
    assert study.ask()
    assert [trial.state for trial in Study(run, spec).trials()] == [TrialState.COMPLETE, TrialState.WAITING]
