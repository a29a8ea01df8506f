"""What the figures share: the empty plot in the report's style, and trials as dots.

Figures are plotly's, in the light palette and without a width: the page sets both. Names and values that a user chose
are escaped, for plotly reads some HTML in texts.
"""

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from raycnn.reporting.palette import LIGHT, model_style
from raycnn.reporting.results import Run, Trial
from raycnn.reporting.words import counted, factor, objective_words, short_value, value_words

STATES = {
    "COMPLETE": {"name": "complete", "marker": {"color": LIGHT["slate"], "size": 7}},
    "PRUNED": {"name": "pruned", "marker": {"color": LIGHT["faint"], "size": 7, "symbol": "circle-open"}},
    "FAIL": {"name": "failed", "marker": {"color": LIGHT["fail"], "size": 7, "symbol": "x-thin-open"}},
}


def plot(height: int, x_title: str, y_title: str) -> go.Figure:
    """An empty figure in the report's style; y in percent."""
    axis = {
        "gridcolor": LIGHT["line"],
        "zeroline": False,
        "linecolor": LIGHT["line"],
        "ticks": "",
        "automargin": True,
        "title": {"font": {"size": 12, "color": LIGHT["muted"]}, "standoff": 10},
        "tickfont": {"size": 12, "color": LIGHT["muted"]},
        "fixedrange": False,
    }
    return go.Figure(
        layout={
            "height": height,
            "template": "none",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": LIGHT["ink"]},
            "margin": {"l": 8, "r": 12, "t": 36, "b": 8},
            "xaxis": axis | {"title": axis["title"] | {"text": x_title}, "showgrid": True},
            "yaxis": axis | {"title": axis["title"] | {"text": y_title}, "ticksuffix": " %"},
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12}},
            "hoverlabel": {
                "bgcolor": LIGHT["card"],
                "bordercolor": LIGHT["line"],
                "font": {"size": 12, "color": LIGHT["ink"]},
            },
            "hovermode": "closest",
        }
    )


def add_trials(
    figure: go.Figure,
    trials: Iterable[Trial],
    models: list[str],
    x: Callable[[Trial], Any],
    y: Callable[[Trial], Any],
    meta: str | None = None,
    parameter: str | None = None,
    top: float | None = None,
) -> None:
    """Changes `figure`: a trace for each state, and one for each of `models`.

    meta: of the traces. parameter: told where the mouse is. top: what lies above it is a triangle at it.
    """
    points = [(trial, x(trial), y(trial)) for trial in trials]
    points = [point for point in points if point[1] is not None and point[2] is not None]
    groups = [
        (str(style["name"]), style["marker"], [p for p in points if p[0].state == state and p[0].name not in models])
        for state, style in STATES.items()
    ]
    for model in models:
        color, symbol = model_style(model, models)
        marker = {"color": color, "symbol": symbol, "size": 11, "line": {"color": LIGHT["page"], "width": 1}}
        groups.append((model, marker, [p for p in points if p[0].name == model]))
    for name, marker, members in groups:
        inside = [point for point in members if top is None or point[2] <= top]
        above = [(trial, x_value, top) for trial, x_value, y_value in members if top is not None and y_value > top]
        pinned = marker | {"symbol": "triangle-up-open" if marker.get("symbol") == "circle-open" else "triangle-up"}
        for part, look in ((inside, marker), (above, pinned)):
            if part:
                figure.add_scatter(
                    x=[point[1] for point in part],
                    y=[point[2] for point in part],
                    text=[_hover(point[0], parameter) for point in part],
                    mode="markers",
                    name=escape(name),
                    legendgroup=name,
                    showlegend=part is inside or not inside,
                    marker=look,
                    meta=meta,
                    hovertemplate="%{text}<extra></extra>",
                )


def ceiling(run: Run, objective: str, models: list[str]) -> float | None:
    """As it is shown, some way above the complete trials: those pruned early would else press all others onto one line.

    Complete trials far above the most do not count, unless they are among `models`. None without complete trials.
    """
    done = [(trial, value) for trial in run.of_state("COMPLETE") if (value := trial.objectives[objective]) is not None]
    if not done:
        return None
    values = [value for _, value in done]
    low, upper = min(values), float(np.percentile(values, 75))
    high = max([min(max(values), 3 * upper - 2 * low), *(value for trial, value in done if trial.name in models)])
    return factor(objective) * (high + 0.3 * (high - low or high))


def drawn(trial: Trial, objective: str) -> float | None:
    """An objective's last value, as it is shown."""
    value = trial.objectives[objective]
    return None if value is None else round(factor(objective) * value, 4)


def _hover(trial: Trial, parameter: str | None = None) -> str:
    words = [f"<b>{escape(trial.name)}</b> {trial.state.lower()} after {counted(trial.epochs, 'epoch')}"]
    if parameter:
        words.append(f"{escape(parameter)} = {escape(short_value(trial.parameters[parameter]))}")
    words += [f"{objective_words(name)} {value_words(name, value)}" for name, value in trial.objectives.items()]
    return "<br>".join([*words, *map(escape, trial.summary.split(", "))])
