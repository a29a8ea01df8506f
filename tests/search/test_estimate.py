"""What a search will train, evaluate and keep, worked out by hand for small ones."""

import pytest

from raycnn.search.estimate import estimate, expected
from raycnn.search.forecast import Counts, Measured, Span, finals_s, run_bytes, search_s
from raycnn.search.scheduler import own_rungs
from raycnn.search.study import baseline_spec
from raycnn.spec.search import SearchSpec
from raycnn.training.pace import Pace
from raycnn.training.size import checkpoint_bytes

COUNTS = Counts(train=90, validation=10, test=10, classes=10, side_px=32)
SECOND = Pace(train_s=1.0, evaluate_s=0.0, steps=1)  # of an image
TWO = Pace(train_s=2.0, evaluate_s=0.0, steps=1)


def search_of(epochs: int = 9, finals: object = "off", **search: object) -> SearchSpec:
    return SearchSpec.model_validate(
        {
            "name": "small",
            "data": {"name": "shapes", "validation": 10, "train_images": 100, "test_images": 10},
            "model": "fastnet",
            "budget": {"epochs": epochs, "batch_size": 40},
            "space": {"optimizer": {"sgd": {"lr": 0.1}}},
            "search": search,
            "finals": finals,
        }
    )


def test_a_third_goes_on_from_each_rung():
    usual = expected(search_of(trials=28, scheduler="asha"))
    assert usual.going_on == pytest.approx({1: 1 / 3, 3: 1 / 9})
    assert usual.epochs == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert usual.corrupted == pytest.approx(1 + 1 / 3 + 1 / 9)


def test_without_a_scheduler_all_run_to_their_end_and_their_repeats_too():
    usual = expected(search_of(scheduler="none", repeats=2))
    assert (usual.epochs, usual.corrupted, usual.going_on) == (18, 2, {})


def test_trials_of_hyperband_go_on_by_their_own_rungs():
    spec = search_of(trials=14, scheduler="hyperband")
    of_all = [own_rungs(spec, number) for number in range(1, 14)]
    reached = sum((1 / 3) ** (1 in rungs) for rungs in of_all) / 13
    assert expected(spec).going_on[1] == pytest.approx(reached)


def test_images_are_those_of_whole_batches():
    spec = search_of(epochs=2, trials=3, scheduler="none", finals={"top": 1, "seeds": 2, "epochs": 5})
    found = estimate(spec, 90, 100)
    assert (found.likely, found.most, found.finals) == (3 * 2 * 80, 3 * 2 * 80, 2 * 2 * 5 * 80)


def test_slots_share_the_trials_and_what_is_finished_is_not_done_again():
    spec = search_of(epochs=2, trials=5, scheduler="none", objectives=["val/clean_error"])
    measured = Measured(SECOND, SECOND, TWO, "")
    training_s = 2 * 90
    assert search_s(spec, COUNTS, measured, 1, 0) == Span(5 * training_s, 5 * training_s, 9 * training_s)
    assert search_s(spec, COUNTS, measured, 2, 1) == Span(2 * training_s, 2 * training_s, 4 * training_s)
    assert search_s(spec, COUNTS, measured, 2, 5) == Span(0, 0, 0)


def test_a_slot_trains_one_final_after_the_other():
    spec = search_of(epochs=2, finals={"top": 2, "seeds": 1})
    assert finals_s(spec, COUNTS, Measured(SECOND, SECOND, TWO, ""), 2, left=3) == Span(400, 400, 800)


def test_a_run_keeps_two_checkpoints_of_each_training():
    spec = search_of(epochs=2, trials=5, objectives=["val/clean_error"], finals={"top": 1, "seeds": 3})
    one = checkpoint_bytes(baseline_spec(spec), 10, 32)
    assert run_bytes(spec, COUNTS, (), (), finished=1, finals_left=6) == 2 * (4 + 6) * one
