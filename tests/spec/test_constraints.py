"""Constraints between parameters: what they mean, and that nothing in them is ever run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycnn.errors import SpecError
from raycnn.spec.constraints import parse
from raycnn.spec.reading import search_from_text

VALUES = {"cutout": "on", "cutout.size_px": 8, "cutout.holes": 3, "optimizer.sgd.lr": 0.1, "mixup.alpha": 0.5}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("cutout.size_px * cutout.holes <= 32", True),
        ("cutout.size_px * cutout.holes < 24", False),
        ("2 <= cutout.holes < 4", True),
        ("not cutout.holes == 3", False),
        ("cutout.holes == 1 or optimizer.sgd.lr > 0.05", True),
        ("max(cutout.size_px, 10) - abs(-2) == 8", True),
        ("cutout == 'on' and cutout.holes ** 2 == 9", True),
        ("mixup.alpha / optimizer.sgd.lr > 4.9", True),
        ("cutout.size_px > rotation.weight", True),  # which is not there
        ("-cutout.holes < +0", True),
    ],
)
def test_a_constraint_means_what_it_says(text, holds):
    assert parse(text).holds(VALUES) is holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("__import__('os').system('true') == 0", "is not allowed"),
        ("cutout.__class__.__mro__[1] == 1", "is not allowed"),
        ("(lambda: cutout.holes)() < 1", "is not allowed"),
        ("[cutout.holes for _ in 'x'] == 1", "is not allowed"),
        ("cutout.holes if cutout.holes else 1", "is not allowed"),
        ("open(cutout) == 1", "is not allowed"),
        ("cutout.holes in (1, 2)", "is not allowed"),
        ("f'{cutout}' == 'on'", "is not allowed"),
        ("cutout.holes := 3", "is no expression"),
        ("cutout.holes <", "is no expression"),
        ("1 < 2", "names no parameter"),
        ("cutout.holes + 1", "compares nothing"),
        ("(" * 200 + "cutout.holes" + ")" * 200 + " < 1" + " < 1" * 3, ""),
        ("-" * 80 + "cutout.holes < 1", "is nested too deeply"),
    ],
)
def test_what_is_no_constraint_is_refused(text, reason):
    if not reason:
        return  # deep brackets are Python's to refuse or to take; neither runs anything
    with pytest.raises(ValueError, match=reason) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["cutout < 3", "cutout.holes / 0 < 1", "cutout + 'x' == 1", "9 ** 9 ** cutout.holes > 1"]
)
def test_what_cannot_be_worked_out_says_so(text):
    with pytest.raises(ValueError, match="cannot be worked out"):
        parse(text).holds(VALUES)


@given(st.integers(-50, 50), st.integers(-50, 50), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_comparisons_are_pythons(a, b, sign):
    assert parse(f"x {sign} y").holds({"x": a, "y": b}) is eval(f"{a} {sign} {b}")  # noqa: S307


SPACE = """
name: t
data: {name: shapes}
model: fastnet
budget: {epochs: 9, batch_size: 256}
space:
  regularizers:
    cutout: {choice: {off: {}, on: {size_px: {type: int, low: 2, high: 20}}}}
  optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}}
"""


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "{constraints: ['cutout.size <= 3']}",
            r"t.yaml:\d+: search.constraints.0: cutout.size is no parameter .* Did you mean cutout.size_px\?",
        ),
        ("{constraints: ['cutout.size_px']}", "compares nothing"),
        ("{sampler: grid}", "search.sampler: grid needs steps, and optimizer.sgd.lr has none"),
        ("{sampler: cmaes, objectives: [val/clean_error]}", "cmaes models numbers alone, and cutout is a choice"),
        ("{sampler: cmaes}", "cmaes knows one objective only"),
        ("{objectives: [cost/images]}", "are costs alone"),
    ],
)
def test_a_mistake_in_the_search_section_is_named_with_its_line(search, message):
    with pytest.raises(SpecError, match=message):
        search_from_text(SPACE + f"search: {search}\n", "t.yaml")


def test_a_grid_of_more_values_than_anybody_can_try_is_refused():
    text = SPACE.replace("log: true", "step: 0.00001") + "search: {sampler: grid}\n"
    with pytest.raises(SpecError, match=r"grid would take 99,001 values of optimizer.sgd.lr"):
        search_from_text(text, "t.yaml")
