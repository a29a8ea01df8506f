"""Figures of the finals, with 95 % intervals: errors by corruption, flip probabilities, errors under attack."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from raycnn.reporting.palette import LIGHT, model_style
from raycnn.reporting.plots import plot
from raycnn.reporting.score_words import estimate_words, interval_words
from raycnn.robustness.corruptions import SEVERITIES, VALIDATION_CORRUPTIONS
from raycnn.robustness.metrics import MFP_PERTURBATIONS
from raycnn.robustness.results import Outcomes
from raycnn.robustness.statistics import Estimate, estimate
from raycnn.robustness.summary import by_model, corruption_cells

_FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "used by<br>the search": VALIDATION_CORRUPTIONS,
}
"""Hendrycks & Dietterich 2019, arXiv:1903.12261, section 4.1; the last are those that the search minimises."""

Values = dict[str, dict[str, Estimate]]  # name -> model


def corruption_errors(outcomes: Outcomes, of: str, models: list[str]) -> go.Figure:
    """Dots with 95 % intervals, a row for each corruption.

    Traces carry in `meta` what they show: "mean" over severities (visible), or the severity.
    """
    cells = corruption_cells(outcomes, of)
    names = {name for name, _ in cells}
    groups = {family: [name for name in members if name in names] for family, members in _FAMILIES.items()}
    rows = {family: members for family, members in groups.items() if members}
    other = sorted(names.difference(*rows.values()))
    figure = _row_figure(rows | ({"other": other} if other else {}), "error")
    order = [name for members in [*rows.values(), other] for name in members]
    for view in ("mean", *map(str, SEVERITIES)):
        values: Values = {}
        for name in order:
            of_severities = [t for (n, severity), t in cells.items() if n == name and view in ("mean", str(severity))]
            complete = set.intersection(*map(set, of_severities)) if of_severities else set()
            means = {key: np.mean([trainings[key] for trainings in of_severities], axis=0) for key in complete}
            values[name] = {model: estimate(samples, share=True) for model, samples in by_model(means).items()}
        _add_rows(figure, order, values, models, view, visible=view == "mean")
    return figure


def flip_probabilities(outcomes: Outcomes, models: list[str]) -> go.Figure:
    """As `corruption_errors`, for the perturbations of CIFAR-10-P; those of the mean come first."""
    values: Values = {
        name: {model: estimate(samples, share=True) for model, samples in by_model(trainings).items()}
        for (of, name, _, kind), trainings in outcomes.items()
        if of == "cifar-10-p" and kind == "flips"
    }
    first = [name for name in MFP_PERTURBATIONS if name in values]
    rest = sorted(set(values).difference(first))
    rows = {"in the mean": first, "others": rest} if first and rest else {"": first or rest}
    figure = _row_figure(rows, "flip probability")
    _add_rows(figure, [*first, *rest], values, models, None, visible=True)
    return figure


def under_attack(outcomes: Outcomes, attack: str, models: list[str]) -> go.Figure:
    """Error against the attack's strength, in steps of 255. attack: "fgsm" or "pgd"."""
    figure = plot(380, "ε, in steps of 255", "error")
    figure.update_yaxes(rangemode="tozero")
    points: dict[str, dict[float, Estimate]] = {}
    for (of, name, _, kind), trainings in outcomes.items():
        if of == attack and kind == "wrong":
            strength = float(name.removeprefix("eps=")) * 255
            for model, samples in by_model(trainings).items():
                points.setdefault(model, {})[strength] = estimate(samples, share=True)
    for model in [model for model in models if model in points]:
        found = sorted(points[model].items())
        color, symbol = model_style(model, models)
        figure.add_scatter(
            x=[strength for strength, _ in found],
            y=[100 * one.value for _, one in found],
            error_y=_whiskers([one for _, one in found], width=3),
            text=[f"<b>{escape(model)}</b> ε = {s:.3g}/255<br>{_numbers(one)}" for s, one in found],
            mode="lines+markers",
            name=escape(model),
            line={"color": color, "width": 2, "dash": "dot" if model == "baseline" else "solid"},
            marker={"color": color, "symbol": symbol, "size": 8},
            hovertemplate="%{text}<extra></extra>",
        )
    return figure


def _row_figure(rows: Mapping[str, Sequence[str]], x_title: str) -> go.Figure:
    """Rows of names from the top, every second family on a band, its name at the right."""
    order = [name for members in rows.values() for name in members]
    figure = plot(96 + 30 * len(order), x_title, "")
    figure.update_layout(margin_r=72 if len(rows) > 1 else 12)
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=[_label(name) for name in order],
        range=[len(order) - 0.5, -0.5],
        ticksuffix="",
        showgrid=False,
    )
    top = -0.5
    for place, (family, members) in enumerate(rows.items()):
        if place % 2 == 0 and len(rows) > 1:
            band = {"y0": top, "y1": top + len(members), "x0": 0, "x1": 1, "xref": "paper", "line": {"width": 0}}
            figure.add_shape(type="rect", fillcolor=LIGHT["card"], layer="below", **band)
        label = {"font": {"size": 11, "color": LIGHT["muted"]}, "showarrow": False, "xanchor": "left", "align": "left"}
        figure.add_annotation(text=family, x=1, xref="paper", y=top, yanchor="top", **label)
        top += len(members)
    return figure


def _add_rows(
    figure: go.Figure, order: list[str], values: Values, models: list[str], meta: str | None, visible: bool
) -> None:
    """Changes `figure`: a trace for each model, its dots a little below those of the one before."""
    shown = [model for model in models if any(model in values[name] for name in order)]
    step = min(0.24, 0.72 / max(len(shown), 1))
    for place, model in enumerate(shown):
        rows = [(row, name) for row, name in enumerate(order) if model in values[name]]
        found = [values[name][model] for _, name in rows]
        color, symbol = model_style(model, models)
        figure.add_scatter(
            x=[100 * of.value for of in found],
            y=[row + step * (place - (len(shown) - 1) / 2) for row, _ in rows],
            error_x=_whiskers(found, width=0),
            text=[
                f"<b>{escape(model)}</b> {_label(name)}<br>{_numbers(of)}"
                for (_, name), of in zip(rows, found, strict=True)
            ],
            mode="markers",
            name=escape(model),
            marker={"color": color, "symbol": symbol, "size": 8},
            meta=meta,
            visible=visible,
            hovertemplate="%{text}<extra></extra>",
        )


def _whiskers(found: Sequence[Estimate], width: int) -> dict[str, object]:
    up = [100 * (of.high - of.value) for of in found]
    down = [100 * (of.value - of.low) for of in found]
    return {"array": up, "arrayminus": down, "symmetric": False, "thickness": 1.2, "width": width}


def _numbers(of: Estimate) -> str:
    seeds = f"{of.seeds} seeds" if of.seeds > 1 else "one seed"
    return f"{estimate_words(of)}, {seeds}<br>95 % interval {interval_words(of)}"


def _label(name: str) -> str:
    """Names come from the files of a benchmark's directory."""
    return escape(name.replace("_", " "))
