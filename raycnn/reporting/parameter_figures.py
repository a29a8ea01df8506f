"""Figures of the parameters: which of them mattered, and which values did well."""

import math
from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go

from raycnn.reporting.palette import LIGHT
from raycnn.reporting.plots import add_trials, ceiling, drawn, plot
from raycnn.reporting.results import Run, Trial
from raycnn.reporting.words import factor, objective_words, short_value, suffix
from raycnn.spec.space import FloatRange, IntRange, Named, Options


def importance(shares: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Bars by parameter, one for each objective, the parameter that matters most on top."""
    mean = {name: sum(of.get(name, 0) for of in shares.values()) for of in shares.values() for name in of}
    names = sorted(mean, key=lambda name: mean[name])
    figure = plot(80 + (14 + 14 * len(shares)) * len(names), "share", "")
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_yaxes(type="category", ticksuffix="")
    figure.update_layout(bargap=0.35, barmode="group")
    for place, (objective, of) in enumerate(reversed(list(shares.items()))):
        color = LIGHT["slate" if place == len(shares) - 1 else "faint"]  # those of models would mislead
        figure.add_bar(
            y=[escape(parameter_label(name)) for name in names],
            x=[100 * of.get(name, 0) for name in names],
            orientation="h",
            name=objective_words(objective),
            marker={"color": color},
            hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        )
    figure.update_layout(legend_traceorder="reversed")
    return figure


def slices(run: Run, named: Named, models: list[str]) -> go.Figure | None:
    """One parameter against each objective (traces carry theirs in `meta`); None if no trial has taken it.

    Only where the parameter's branch was taken; numbers on the axis of the search, choices in columns. The dotted
    line is the baseline, which has no parameters.
    """
    having = [trial for trial in run.trials if named.name in trial.parameters and trial.state != "FAIL"]
    if not having:
        return None
    figure = plot(210, "", "")
    if not all(map(suffix, run.objectives)):  # one axis serves them all
        figure.update_yaxes(ticksuffix="")
    figure.update_layout(showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(tickangle=0, nticks=5)
    form = named.parameter
    if isinstance(form, FloatRange | IntRange):
        ends = (form.low, form.high)
        if form.log:
            decades = [10.0**k for k in range(math.ceil(math.log10(form.low)), math.floor(math.log10(form.high)) + 1)]
            figure.update_xaxes(type="log", tickvals=decades, ticktext=[short_value(decade) for decade in decades])
    else:
        ends = (-0.5, len(form.choice) - 0.5)
        options = [escape(short_value(option)) for option in form.choice]
        figure.update_xaxes(tickvals=list(range(len(options))), ticktext=options)

    def place(trial: Trial) -> float:
        value = trial.parameters[named.name]
        if isinstance(form, Options):
            # Side by side, in a way that is the same each time.
            return form.choice.index(value) + ((trial.number * 7) % 11 - 5) / 25
        return float(value)

    for objective in run.objectives:
        top = ceiling(run, objective, models)
        untuned = next((t.objectives[objective] for t in run.of_state("COMPLETE") if t.kind == "baseline"), None)
        if untuned is not None:
            line = {"color": LIGHT["baseline"], "width": 1.2, "dash": "dot"}
            x, y = list(ends), [factor(objective) * untuned] * 2
            figure.add_scatter(x=x, y=y, mode="lines", line=line, meta=objective, hoverinfo="skip")

        def value(trial: Trial, objective: str = objective) -> float | None:
            return drawn(trial, objective)

        add_trials(figure, having, models, place, value, objective, named.name, top)
    for objective in run.objectives[1:]:
        figure.update_traces(visible=False, selector={"meta": objective})
    return figure


def parameter_label(name: str) -> str:
    """A parameter as the report calls it: the optimizer's section name says nothing new."""
    return name.removeprefix("optimizer.")
