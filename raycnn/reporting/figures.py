"""Figures of the search: objectives over time, front, ranking, learning curves."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import plotly.graph_objects as go

from raycnn.reporting.palette import LIGHT, model_style
from raycnn.reporting.plots import STATES, add_trials, ceiling, drawn, plot
from raycnn.reporting.results import Curve, Run, Trial
from raycnn.reporting.words import factor, objective_words, suffix
from raycnn.search.front import fronts


def history(run: Run, objective: str, models: list[str]) -> go.Figure:
    """Each trial's last value at the time it ended, and the best complete one so far as a step line.

    models: the finalists, drawn in their own colours. Time in which no trial ran is left out.
    """
    ended = search_time(run.trials)
    longest = max(ended.values(), default=0.0)
    unit, per = ("hours", 3600) if longest > 3 * 3600 else ("minutes", 60)
    figure = plot(360, f"{unit} of search", objective_words(objective))
    figure.update_yaxes(ticksuffix=suffix(objective))
    add_trials(
        figure,
        run.trials,
        models,
        lambda trial: ended[trial.number] / per,
        lambda trial: drawn(trial, objective),
        top=ceiling(run, objective, models),
    )
    best, steps = float("inf"), []
    for trial in sorted(run.of_state("COMPLETE"), key=lambda trial: ended[trial.number]):
        value = trial.objectives[objective]
        if value is not None and value < best:
            best = value
            steps.append((ended[trial.number] / per, value * factor(objective)))
    if steps:
        steps.append((longest / per, steps[-1][1]))
        x, y = zip(*steps, strict=True)
        line = {"color": LIGHT["ink"], "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=x, y=y, mode="lines", name="best so far", line=line, hoverinfo="skip")
    return figure


def front(run: Run, models: list[str]) -> go.Figure:
    """Two objectives against each other: the complete trials, their Pareto front, the baseline.

    The axes are cut above the complete trials; a double click shows the rest.
    """
    first, second = run.objectives[:2]
    figure = plot(460, objective_words(first), objective_words(second))
    figure.update_xaxes(ticksuffix=suffix(first), range=_focus(run, first, models))
    figure.update_yaxes(ticksuffix=suffix(second), range=_focus(run, second, models))
    done = run.of_state("COMPLETE")
    points = sorted(_values(trial, (first, second)) for trial in pareto(run))
    if points and len(run.objectives) == 2:  # of more objectives, the front is no line on this plane
        # A step: what lies above and to the right of it is dominated.
        x, y = zip(*[(a * factor(first), b * factor(second)) for a, b in points], strict=True)
        line = {"color": LIGHT["ink"], "width": 1.5, "shape": "hv"}
        figure.add_scatter(x=x, y=y, mode="lines", name="Pareto front", line=line, hoverinfo="skip")
    shown = [*done, *run.of_state("PRUNED")]
    add_trials(figure, shown, models, lambda t: drawn(t, first), lambda t: drawn(t, second))
    return figure


def _focus(run: Run, objective: str, models: list[str]) -> list[float] | None:
    """The range of an axis: the complete trials and some air."""
    top = ceiling(run, objective, models)
    low = min((factor(objective) * (t.objectives[objective] or 0) for t in run.of_state("COMPLETE")), default=0.0)
    return None if top is None else [low - 0.25 * (top - low), top]


def ranking(run: Run, models: list[str], count: int = 10) -> go.Figure:
    """One objective: the best complete trials and the baseline, best on top."""
    objective = run.objectives[0]
    done = [t for t in run.of_state("COMPLETE") if t.objectives[objective] is not None]
    best = sorted(done, key=lambda trial: trial.objectives[objective] or 0)
    shown = best[:count] + [t for t in best[count:] if t.kind == "baseline"]
    figure = plot(90 + 26 * len(shown), objective_words(objective), "")
    figure.update_xaxes(ticksuffix=suffix(objective))
    figure.update_yaxes(type="category", autorange="reversed", ticksuffix="")
    add_trials(figure, shown, models, lambda t: drawn(t, objective), lambda t: t.name)
    figure.update_yaxes(categoryorder="array", categoryarray=[trial.name for trial in shown])
    return figure


def learning_curves(run: Run, metric: str, models: list[str]) -> go.Figure:
    """A validation metric by epoch; the curve of a pruned trial ends early, with a ring."""
    figure = plot(400, "epochs", objective_words(metric))
    # On a logarithmic scale, for the last epochs differ by points where the first differ by tens of them.
    ticks = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
    figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick} %" for tick in ticks])
    figure.update_xaxes(rangemode="tozero")
    by_number = {trial.number: trial for trial in run.trials}
    for state, style in STATES.items():
        plain = [
            (trial, run.curves[number].metrics[metric])
            for number, trial in by_number.items()
            if trial.state == state and trial.name not in models and metric in _metrics(run, number)
        ]
        if plain:
            x, y, names, ends = _joined(plain)
            color, width = style["marker"]["color"], 1 if state == "PRUNED" else 1.3
            figure.add_scatter(
                x=x,
                y=y,
                text=names,
                mode="lines+markers",
                name=style["name"],
                opacity=0.75,
                line={"color": color, "width": width},
                marker={"color": color, "size": [6 if end else 0 for end in ends], "symbol": "circle-open"},
                hovertemplate="<b>%{text}</b> epoch %{x}: %{y:.2f} %<extra></extra>",
            )
    for model in models:
        trial = next((trial for trial in run.trials if trial.name == model), None)
        if trial and metric in _metrics(run, trial.number):
            color, symbol = model_style(model, models)
            x, y, names, _ = _joined([(trial, run.curves[trial.number].metrics[metric])])
            figure.add_scatter(
                x=x,
                y=y,
                text=names,
                mode="lines+markers" if len(x) < 8 else "lines",
                name=model,
                line={"color": color, "width": 2.4, "dash": "dot" if model == "baseline" else "solid"},
                marker={"color": color, "size": 7, "symbol": symbol},
                hovertemplate="<b>%{text}</b> epoch %{x}: %{y:.2f} %<extra></extra>",
            )
    return figure


def pareto(run: Run) -> list[Trial]:
    """The complete trials that no other beats in all objectives, the baseline among them if so."""
    done = [trial for trial in run.of_state("COMPLETE") if None not in trial.objectives.values()]
    values = [_values(trial, run.objectives) for trial in done]
    return [done[index] for index in fronts(values)[0]] if values else []


def search_time(trials: Sequence[Trial]) -> dict[int, float]:
    """Seconds of search until each trial's end, without the time in which none ran, as between stop and resume."""
    spans = sorted((t.started, t.finished) for t in trials if t.started and t.finished)
    ended = {trial.number: 0.0 for trial in trials}
    for trial in trials:
        if trial.finished:
            ended[trial.number] = _covered(spans, trial.finished)
    return ended


def _covered(spans: list[tuple[datetime, datetime]], until: datetime) -> float:
    """Seconds up to `until` that lie in any of the spans, which are sorted."""
    total, reached = 0.0, None
    for start, end in spans:
        start, end = (start if reached is None else max(start, reached)), min(end, until)
        if end > start:
            total += (end - start).total_seconds()
            reached = end
    return total


def _joined(curves: list[tuple[Trial, tuple[tuple[int, float], ...]]]) -> tuple[list, list, list, list]:
    """Many curves as one trace: x, y, names, and where a curve ended before its time. Gaps are None."""
    x, y, names, ends = [], [], [], []
    for trial, points in curves:
        for place, (epoch, value) in enumerate(points):
            x.append(epoch)
            y.append(round(100 * value, 3))
            names.append(escape(trial.name))
            ends.append(place == len(points) - 1 and trial.state != "COMPLETE")
        x, y, names, ends = [*x, None], [*y, None], [*names, ""], [*ends, False]
    return x, y, names, ends


def _metrics(run: Run, number: int) -> Mapping[str, Any]:
    return run.curves.get(number, Curve((), (), {})).metrics


def _values(trial: Trial, objectives: Sequence[str]) -> tuple[float, ...]:
    return tuple(trial.objectives[name] or 0.0 for name in objectives)
