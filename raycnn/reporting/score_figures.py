"""Figures of the finals, with spreads over seeds: errors by corruption, flip probabilities, errors under FGSM."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from raycnn.reporting.palette import LIGHT, model_style
from raycnn.reporting.plots import plot
from raycnn.reporting.results import Score
from raycnn.reporting.scores import SEVERITIES, corruption_cells, spread
from raycnn.reporting.words import percent
from raycnn.robustness.corruptions import VALIDATION_CORRUPTIONS
from raycnn.robustness.metrics import MFP_PERTURBATIONS

_FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "used by<br>the search": VALIDATION_CORRUPTIONS,
}
"""Hendrycks & Dietterich 2019, arXiv:1903.12261, section 4.1; the last are those that the search minimises."""

Values = dict[str, dict[str, list[float]]]  # name -> model -> one value per seed


def corruption_errors(scores: Sequence[Score], of: str, models: list[str]) -> go.Figure:
    """Dots with the standard deviation over seeds, a row for each corruption.

    Traces carry in `meta` what they show: "mean" over severities (visible), or the severity.
    """
    cells = corruption_cells(scores, of)
    names = {name for errors in cells.values() for name, _ in errors}
    groups = {family: [name for name in members if name in names] for family, members in _FAMILIES.items()}
    rows = {family: members for family, members in groups.items() if members}
    other = sorted(names.difference(*rows.values()))
    figure = _row_figure(rows | ({"other": other} if other else {}), "error")
    order = [name for members in [*rows.values(), other] for name in members]
    for view in ("mean", *map(str, SEVERITIES)):
        values: Values = {name: {} for name in order}
        for (model, _), errors in sorted(cells.items()):
            for name in order:
                chosen = [e for (n, severity), e in errors.items() if n == name and view in ("mean", str(severity))]
                if chosen:
                    values[name].setdefault(model, []).append(sum(chosen) / len(chosen))
        _add_rows(figure, order, values, models, view, visible=view == "mean")
    return figure


def flip_probabilities(scores: Sequence[Score], models: list[str]) -> go.Figure:
    """As `corruption_errors`, for the perturbations of CIFAR-10-P; those of the mean come first."""
    values: Values = {}
    for score in scores:
        if score.set == "cifar-10-p" and score.metric == "flip_probability":
            values.setdefault(score.name, {}).setdefault(score.model, []).append(score.value)
    first = [name for name in MFP_PERTURBATIONS if name in values]
    rest = sorted(set(values).difference(first))
    rows = {"in the mean": first, "others": rest} if first and rest else {"": first or rest}
    figure = _row_figure(rows, "flip probability")
    _add_rows(figure, [*first, *rest], values, models, None, visible=True)
    return figure


def fgsm(scores: Sequence[Score], models: list[str]) -> go.Figure:
    """Error against the attack's strength, in steps of 255."""
    figure = plot(380, "ε, in steps of 255", "error")
    figure.update_yaxes(rangemode="tozero")
    rows = [score for score in scores if score.set == "fgsm" and score.metric == "error"]
    images = {score.n for score in rows}
    clean = [s for s in scores if s.set == "clean" and s.metric == "error" and {s.n} == images]
    points: dict[str, dict[float, list[float]]] = {}
    for score in [*clean, *rows]:
        strength = float(score.name.removeprefix("eps=")) * 255 if score.set == "fgsm" else 0.0
        points.setdefault(score.model, {}).setdefault(strength, []).append(score.value)
    for model in [model for model in models if model in points]:
        x = sorted(points[model])
        spreads = [spread(points[model][strength]) for strength in x]
        color, symbol = model_style(model, models)
        figure.add_scatter(
            x=x,
            y=[100 * of.mean for of in spreads],
            error_y={"array": [100 * (of.deviation or 0) for of in spreads], "thickness": 1.2, "width": 3},
            text=[
                f"<b>{escape(model)}</b> ε = {s:.3g}/255: {percent(of.mean)}" for s, of in zip(x, spreads, strict=True)
            ],
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
        spreads = [spread(values[name][model]) for _, name in rows]
        color, symbol = model_style(model, models)
        figure.add_scatter(
            x=[100 * of.mean for of in spreads],
            y=[row + step * (place - (len(shown) - 1) / 2) for row, _ in rows],
            error_x={"array": [100 * (of.deviation or 0) for of in spreads], "thickness": 1.2, "width": 0},
            text=[
                f"<b>{escape(model)}</b> {_label(name)}<br>{percent(of.mean)}"
                + (f" ± {percent(of.deviation)}, {of.n} seeds" if of.deviation is not None else ", one seed")
                for (_, name), of in zip(rows, spreads, strict=True)
            ],
            mode="markers",
            name=escape(model),
            marker={"color": color, "symbol": symbol, "size": 8},
            meta=meta,
            visible=visible,
            hovertemplate="%{text}<extra></extra>",
        )


def _label(name: str) -> str:
    """Names come from the files of a benchmark's directory."""
    return escape(name.replace("_", " "))
