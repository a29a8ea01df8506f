"""Asynchronous successive halving over the study's rungs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycnn.search.scheduler import goes_on, rung_epochs
from raycnn.spec.reading import search_from_text

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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.integers(2, 5))
def test_a_full_rung_promotes_its_best_share_rounded_up(values, factor):
    going = [value for value in values if goes_on(value, values, factor)]
    assert sorted(going) == sorted(values)[: -(-len(values) // factor)]


def test_first_at_a_rung_always_goes_on():
    assert goes_on(0.9, [0.9], 3)
