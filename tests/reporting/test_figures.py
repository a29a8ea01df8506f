"""Figures hold what they should: by their data, not by their looks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from plotly.colors import hex_to_rgb

from raycnn.reporting import figures, parameter_figures, score_figures
from raycnn.reporting.answer import scored_models
from raycnn.reporting.palette import DARK, LIGHT, dark_twins, model_style
from raycnn.reporting.plots import ceiling
from raycnn.reporting.results import Run, Trial, read_run
from raycnn.robustness.results import Outcomes
from raycnn.robustness.statistics import estimate
from raycnn.robustness.summary import by_model, corruption_cells
from raycnn.spec.space import parameters

CLEAN, CORRUPTED = "val/clean_error", "val/corruption_error"


@pytest.fixture(scope="module")
def run(run_dir) -> Run:
    return read_run(run_dir)


@pytest.fixture(scope="module")
def shown(run) -> list[str]:
    return scored_models(run)


def data(figure: Any) -> list[Any]:
    return list(figure.data)


def traces(figure: Any, name: str) -> list[Any]:
    return [trace for trace in data(figure) if trace.name == name]


def test_the_best_so_far_only_falls_and_ends_at_the_best(run, shown):
    (line,) = traces(figures.history(run, CLEAN, shown), "best so far")
    assert all(a >= b for a, b in zip(line.y, line.y[1:], strict=False))
    assert line.y[-1] == pytest.approx(100 * min(t.objectives[CLEAN] for t in run.of_state("COMPLETE")))


def test_every_trial_is_one_dot_of_the_history(run, shown):
    figure = figures.history(run, CLEAN, shown)
    dots = sum(len(trace.x) for trace in data(figure) if trace.mode == "markers")
    assert dots == len(run.trials)
    assert sum(len(trace.x) for trace in traces(figure, "pruned")) == len(run.of_state("PRUNED"))


def test_what_was_pruned_early_does_not_press_the_others_together(run, shown):
    figure = figures.history(run, CLEAN, shown)
    top = ceiling(run, CLEAN, shown)
    assert max(max(trace.y) for trace in data(figure)) == pytest.approx(top)
    assert all(100 * t.objectives[CLEAN] <= top for t in run.trials if t.name in shown)


def test_search_time_leaves_out_what_lies_between_stop_and_resume():
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def trial(number: int, start: float, end: float) -> Trial:
        times = (began + timedelta(seconds=start), began + timedelta(seconds=end))
        return Trial(number, "search", "COMPLETE", "", {}, {}, 1, 1, 1.0, *times, 0)

    trials = [trial(0, 0, 10), trial(1, 5, 20), trial(2, 1000, 1007), trial(3, 1003, 1004)]
    assert figures.search_time(trials) == {0: 10, 1: 20, 2: 27, 3: 24}


def test_the_front_line_joins_the_trials_that_none_beats(run, shown):
    (line,) = traces(figures.front(run, shown), "Pareto front")
    values = np.array([[100 * v for v in t.objectives.values()] for t in run.of_state("COMPLETE")])
    for x, y in zip(line.x, line.y, strict=True):
        assert not ((values[:, 0] < x - 1e-9) & (values[:, 1] < y - 1e-9)).any()
    assert list(line.x) == sorted(line.x)
    assert list(line.y) == sorted(line.y, reverse=True)


def test_curves_of_pruned_trials_end_early(run, shown):
    figure = figures.learning_curves(run, CLEAN, shown)
    (pruned,), (complete,) = traces(figure, "pruned"), traces(figure, "complete")
    assert max(x for x in pruned.x if x) < max(x for x in complete.x if x) == run.spec.budget.epochs
    rings = sum(size > 0 for size in pruned.marker.size)
    assert rings == len(run.of_state("PRUNED"))


def test_a_slice_holds_only_trials_that_took_the_branch(run, shown):
    named = next(named for named in parameters(run.spec.space) if named.name == "cutout.size_px")
    figure = parameter_figures.slices(run, named, shown)
    assert figure is not None
    having = [t for t in run.trials if t.parameters.get("cutout") == "on" and t.state != "FAIL"]
    dots = [trace for trace in data(figure) if trace.mode == "markers"]
    for objective in (CLEAN, CORRUPTED):
        assert sum(len(trace.x) for trace in dots if trace.meta == objective) == len(having)
    assert {trace.meta for trace in data(figure) if trace.visible is not False} == {CLEAN}
    assert parameter_figures.slices(replace(run, trials=()), named, shown) is None


def test_importance_has_the_weightiest_parameter_on_top():
    figure = parameter_figures.importance({CLEAN: {"a": 0.1, "b": 0.7}, CORRUPTED: {"a": 0.3, "c": 0.05}})
    assert list(data(figure)[0].y) == ["c", "a", "b"]


def test_corruption_rows_are_means_over_seeds_with_their_interval(run, shown):
    figure = score_figures.corruption_errors(run.outcomes, "cifar-10-c", shown)
    (trace,) = [t for t in data(figure) if t.name == shown[1] and t.meta == "3"]
    row = [text.split("</b> ")[1].split("<br>")[0] for text in trace.text].index("fog")
    wrong = by_model(corruption_cells(run.outcomes, "cifar-10-c")["fog", 3])[shown[1]]
    assert wrong.shape == (3, 1000)
    assert trace.x[row] == pytest.approx(100 * wrong.mean())
    of = estimate(wrong, share=True)
    assert trace.x[row] + trace.error_x.array[row] == pytest.approx(100 * of.high)
    assert trace.x[row] - trace.error_x.arrayminus[row] == pytest.approx(100 * of.low)
    assert {t.meta for t in data(figure) if t.visible} == {"mean"}


def test_intervals_end_where_errors_do():
    wrong = {("m", seed): (np.arange(20) < count).astype(float) for seed, count in enumerate((19, 3))}
    outcomes: Outcomes = {("cifar-10-c", "fog", 1, "wrong"): wrong}
    (trace,) = [t for t in data(score_figures.corruption_errors(outcomes, "cifar-10-c", ["m"])) if t.meta == "1"]
    assert (trace.x[0] - trace.error_x.arrayminus[0], trace.x[0] + trace.error_x.array[0]) == (0, 100)


def test_attacks_are_drawn_from_epsilon_0_on(run, shown):
    (line,) = traces(score_figures.under_attack(run.outcomes, "pgd", shown), "baseline")
    assert line.x[0] == 0
    assert list(line.x) == sorted(line.x)
    assert line.y[-1] > line.y[0]


def test_names_that_a_user_chose_are_escaped(run, shown):
    evil = '<img src=x onerror="alert(1)">'
    trial = replace(run.trials[1], parameters={"optimizer": evil})
    figure = figures.history(replace(run, trials=(trial,)), CLEAN, [])
    outcomes: Outcomes = {("cifar-10-c", evil, 1, "wrong"): {(evil, 0): np.array([0.0, 1.0])}}
    corrupted = score_figures.corruption_errors(outcomes, "cifar-10-c", [evil])
    importances = parameter_figures.importance({CLEAN: {evil: 1.0}})
    for text in (str(drawn.to_json()) for drawn in (figure, corrupted, importances)):
        assert "<img" not in text
        assert "\\u003cimg" not in text
        assert "lt;img" in text


def test_every_colour_has_one_dark_twin_and_both_can_be_read():
    assert len(dark_twins()) == len(LIGHT) == len(DARK)

    def luminance(color: str) -> float:
        parts = [c / 255 for c in hex_to_rgb(color)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted([luminance(a), luminance(b)])
        return (high + 0.05) / (low + 0.05)

    for palette in (LIGHT, DARK):  # WCAG 2.2: 4.5 for text, 3 for what a figure shows
        assert all(contrast(palette[name], palette["page"]) >= 4.5 for name in ("ink", "muted", "fail"))
        assert all(contrast(palette[name], palette["page"]) >= 3 for name in palette if "series" in name)


def test_models_keep_their_look_whatever_else_is_shown():
    assert model_style("baseline", ["baseline", "a"]) == model_style("baseline", ["baseline"])
    assert model_style("a", ["baseline", "a", "b"]) != model_style("b", ["baseline", "a", "b"])
