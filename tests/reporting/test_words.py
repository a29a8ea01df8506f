"""Numbers and parameters as words."""

import pytest

from raycnn.reporting.words import duration, objective_words, percent, short_objective, short_parameters, short_value


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.84, "0.8 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (185.2, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (100_800, "1 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, words):
    assert duration(seconds) == words


def test_percent_is_a_fraction_times_hundred_and_a_dash_for_nothing():
    assert percent(0.12345) == "12.35 %"
    assert percent(None) == percent(float("nan")) == "–"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0312345, "0.0312"), (5e-4, "5e-4"), (1.25e-5, "1.25e-5"), (12, "12"), (0.0, "0"), (True, "True")],
)
def test_values_keep_three_digits(value, words):
    assert short_value(value) == words


def test_objectives_lose_what_all_of_them_share():
    assert short_objective("val/corruption_error") == "corruption"
    assert objective_words("val/corruption_error") == "corruption error"


def test_parameters_are_grouped_by_branch_and_what_is_off_is_left_out():
    parameters = {
        "cutout": "on",
        "cutout.holes": 2,
        "cutout.size_px": 12,
        "mixup": "off",
        "mixup.alpha": None,
        "rotation": "small",
        "label_smoothing": 0.1,
        "optimizer": "adamw",
        "optimizer.adamw.lr": 1e-3,
        "optimizer.adamw.weight_decay": 5e-4,
        "schedule.warmup": 0.25,
    }
    assert short_parameters(parameters) == (
        "cutout holes=2 size_px=12, rotation=small, label_smoothing=0.1, "
        "adamw lr=0.001 weight_decay=5e-4, schedule warmup=0.25"
    )
