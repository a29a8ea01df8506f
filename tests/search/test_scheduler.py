"""Asynchronous successive halving over the study's rungs."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycnn.search.front import ranked
from raycnn.search.scheduler import bracket, goes_on, own_rungs, rung_epochs
from raycnn.spec.reading import search_from_text
from raycnn.spec.search import SearchSpec

SPACE = """
name: t
data: {{name: shapes}}
model: fastnet
budget: {{epochs: {epochs}, batch_size: 256}}
space: {{optimizer: {{sgd: {{lr: 0.1}}}}}}
search: {search}
"""


@pytest.mark.parametrize(
    ("epochs", "search", "rungs"),
    [
        (30, "{}", (3, 9, 27)),
        (9, "{grace_epochs: 2, reduction_factor: 2}", (2, 4, 8)),
        (1, "{}", ()),
        (30, "{scheduler: none}", ()),
        (4, "{grace_epochs: 4}", ()),
    ],
)
def test_rungs_grow_by_the_reduction_factor_and_stay_below_the_budget(epochs, search, rungs):
    assert rung_epochs(search_from_text(SPACE.format(epochs=epochs, search=search), "t.yaml")) == rungs


def spec_of(search: str, epochs: int = 27) -> SearchSpec:
    return search_from_text(SPACE.format(epochs=epochs, search=search), "t.yaml")


ONE = "objectives: [val/clean_error]"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.integers(2, 5))
def test_a_full_rung_promotes_its_best_share_rounded_up(values, factor):
    spec = spec_of(f"{{{ONE}, reduction_factor: {factor}}}")
    at_rung = {number: (value,) for number, value in enumerate(values, start=1)}
    going = [value for number, (value,) in at_rung.items() if goes_on(number, at_rung, spec)]
    assert sorted(going) == sorted(values)[: -(-len(values) // factor)]


def test_first_at_a_rung_always_goes_on():
    assert goes_on(5, {5: (0.9, 0.9)}, spec_of("{}"))


def test_with_several_objectives_fronts_decide_and_within_one_the_loneliest():
    spec = spec_of("{reduction_factor: 2}")
    # The first front is 1 to 4; of those 1 and 3 are its ends, and 4 stands closer to its neighbours than 2.
    values = {1: (0.1, 0.9), 2: (0.55, 0.45), 3: (0.9, 0.1), 4: (0.6, 0.4), 5: (0.7, 0.7), 6: (0.95, 0.95)}
    assert [number for number in values if goes_on(number, values, spec)] == [1, 2, 3]
    # Of the first objective alone, 4 would have gone on before 3.
    alone = {number: value[:1] for number, value in values.items()}
    assert [number for number in values if goes_on(number, alone, spec)] == [1, 2, 4]


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25)


@given(points)
def test_whoever_goes_on_is_dominated_by_nobody_who_is_stopped(values):
    spec = spec_of("{}")
    at_rung = {number: (float(a), float(b)) for number, (a, b) in enumerate(values, start=1)}
    going = {number for number in at_rung if goes_on(number, at_rung, spec)}
    assert len(going) == -(-len(values) // 3)
    for number in going:
        for other in at_rung.keys() - going:
            a, b = at_rung[other], at_rung[number]
            assert not (a != b and a[0] <= b[0] and a[1] <= b[1])


@given(points)
def test_ranks_name_everybody_once(values):
    assert sorted(ranked([(float(a), float(b)) for a, b in values])) == list(range(len(values)))


def test_the_median_rule_waits_for_peers_and_stops_the_worse_half_at_evenly_spaced_rungs():
    spec = spec_of(f"{{{ONE}, scheduler: median, grace_epochs: 5}}")
    assert rung_epochs(spec) == (5, 10, 15, 20, 25)
    few = {number: (number / 10,) for number in range(1, 5)}
    assert all(goes_on(number, few, spec) for number in few)
    more = {number: (number / 10,) for number in range(1, 8)}
    assert [number for number in more if goes_on(number, more, spec)] == [1, 2, 3, 4]


def test_brackets_of_hyperband_begin_a_rung_later_each_and_have_about_the_same_budget():
    spec = spec_of("{scheduler: hyperband, grace_epochs: 1}")
    assert rung_epochs(spec) == (1, 3, 9)
    assert {own_rungs(spec, number) for number in range(1, 40)} == {(1, 3, 9), (3, 9), (9,), ()}
    counts = Counter(bracket(spec, number) for number in range(1, 401))
    # Li et al. 2018, section 3: n is proportional to 3^s / (s + 1).
    shares = [27 / 4, 9 / 3, 3 / 2, 1]
    for place, share in enumerate(shares):
        assert counts[place] == pytest.approx(400 * share / sum(shares), abs=1.5)
    assert bracket(spec_of("{}"), 7) == 0
