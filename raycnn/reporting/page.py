"""report.html: one file that needs no network. `write_report` makes it from a run directory alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raycnn.files import write_atomically
from raycnn.reporting import figures, parameter_figures, score_figures
from raycnn.reporting.answer import answer, chosen_trial, scored_models
from raycnn.reporting.gaps import gaps
from raycnn.reporting.palette import DARK, LIGHT, dark_twins
from raycnn.reporting.results import Run, Trial, read_run
from raycnn.reporting.samples import sample_images
from raycnn.reporting.score_words import difference_short, estimate_words, interval_words, verdict
from raycnn.reporting.setup import day, setup_facts, space_rows
from raycnn.reporting.words import duration, objective_words, short_value, value_words
from raycnn.robustness.summary import BASELINE, CORRUPTION_SETS, Measure, Relative, measures, models, relative
from raycnn.run_files import spec_text
from raycnn.spec.search import Finals
from raycnn.spec.space import parameters

_FILES = {
    "spec.yaml": "the search, resolved",
    "manifest.json": "versions, hardware, seeds, digests",
    "trials.parquet": "a row for each trial",
    "robustness.parquet": "a row for each score of the finals",
    "outcomes": "what happened on each single test image",
    "study.journal": "the Optuna study",
    "raycnn.log": "what Ray and the workers said",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell. order: what it is sorted by, None last."""

    text: str
    order: float | str | None = None
    detail: str = ""
    mark: str = ""

    @property
    def number(self) -> bool:
        return isinstance(self.order, int | float)


def write_report(run_dir: Path, note: Callable[[str], None] = lambda _: None) -> Path:
    """Write report.html into the run directory and return its path. note: is told what of the run is lost; the page
    says it too. Raises SpecError, DataError for damaged files."""
    run = read_run(run_dir)
    lost = gaps(run)
    for gap in lost:
        note(gap)
    path = run_dir / "report.html"
    write_atomically(path, _render(run, lost))
    return path


def _render(run: Run, lost: list[str]) -> str:
    finalists = scored_models(run) or _trained_finals(run)
    shown = finalists or [trial.name for trial in (chosen_trial(run),) if trial]
    every = measures(run.outcomes, run.tuned_on)
    strips, about_samples = sample_images(run, chosen_trial(run))
    plots = {**_search_figures(run, shown), **_score_figures(run, finalists)}
    shares = _importances(run.directory)
    if shares:
        plots["importance"] = parameter_figures.importance(shares)
    titles = [(named.name, parameter_figures.parameter_label(named.name)) for named in parameters(run.spec.space)]
    return _template().render(
        run=run,
        lost=lost,
        answer=answer(run, every),
        finalists=[(model, _seeds(every, model)) for model in finalists],
        results=[_result_row(measure, finalists) for measure in every],
        verdicts=[(measure.title, verdict(measure)) for measure in every if len(measure.samples) > 1],
        relative=[(one, _relative_row(one, finalists)) for one in relative(run.outcomes)],
        incomplete=_incomplete(every, finalists),
        setup=setup_facts(run),
        space=space_rows(run),
        spec_text=spec_text(run.directory),
        trial_head=["trial", "state", *map(objective_words, run.objectives), "epochs", "time"],
        parameter_head=[title for _, title in titles],
        trial_rows=(rows := [_trial_row(trial, run, [name for name, _ in titles]) for trial in run.trials]),
        number_columns={i for row in rows for i, cell in enumerate(row) if i and cell.number},
        front=sorted(figures.pareto(run), key=lambda t: t.objectives[run.objectives[0]] or 0),
        plots=plots,
        plots_json=_figures_json(plots),
        slices=[(f"slice-{i}", title) for i, (_, title) in enumerate(titles) if f"slice-{i}" in plots],
        samples=strips,
        about_samples=about_samples,
        files=[(name, what) for name, what in _FILES.items() if (run.directory / name).exists()],
        finals_off=not isinstance(run.spec.finals, Finals),
        corruption_sets=[(of, title) for of, title in CORRUPTION_SETS.items() if f"corruptions-{of}" in plots],
        plotly=Markup(get_plotlyjs()),
        light=LIGHT,
        dark=DARK,
        twins=dark_twins(),
        began=day(run.manifest.started),
    )


def _search_figures(run: Run, shown: list[str]) -> dict[str, go.Figure]:
    if not run.trials:
        return {}
    found = {f"history-{i}": figures.history(run, o, shown) for i, o in enumerate(run.objectives)}
    if len(run.objectives) > 1:
        found["front"] = figures.front(run, shown)
    elif run.of_state("COMPLETE"):
        found["ranking"] = figures.ranking(run, shown)
    measured = {name for curve in run.curves.values() for name in curve.metrics}
    for i, name in enumerate(n for n in ("val/clean_error", "val/corruption_error") if n in measured):
        found[f"curves-{i}"] = figures.learning_curves(run, name, shown)
    for i, named in enumerate(parameters(run.spec.space)):
        if (figure := parameter_figures.slices(run, named, shown)) is not None:
            found[f"slice-{i}"] = figure
    return found


def _score_figures(run: Run, finalists: list[str]) -> dict[str, go.Figure]:
    kinds = {(of, kind) for of, _, _, kind in run.outcomes}
    found = {
        f"corruptions-{of}": score_figures.corruption_errors(run.outcomes, of, finalists)
        for of in CORRUPTION_SETS
        if any(place[0] == of and place[2] for place in run.outcomes)
    }
    if ("cifar-10-p", "flips") in kinds:
        found["flips"] = score_figures.flip_probabilities(run.outcomes, finalists)
    for attack in ("fgsm", "pgd"):
        if (attack, "wrong") in kinds:
            found[attack] = score_figures.under_attack(run.outcomes, attack, finalists)
    return found


def _importances(directory: Path) -> dict[str, dict[str, float]]:
    """Empty with too few complete trials, which the page says."""
    from raycnn.search.importance import importances  # imports Optuna, which takes a second

    return importances(directory)


def _trained_finals(run: Run) -> list[str]:
    return models(model for model, _ in run.finals)


def _result_row(measure: Measure, finalists: list[str]) -> tuple[Measure, list[Cell]]:
    cells = []
    pairs = measure.pairs
    for model in finalists:
        if model not in measure.samples:
            cells.append(Cell("–"))
            continue
        of = measure.estimate(model)
        lines = [interval_words(of, measure.share)]
        if (model, BASELINE) in pairs:
            lines += difference_short(pairs[model, BASELINE], measure.share).split(": ")
        cells.append(Cell(estimate_words(of, measure.share), detail="\n".join(lines)))
    return measure, cells


def _relative_row(of: Relative, finalists: list[str]) -> list[Cell]:
    cells = []
    for model in finalists:
        one = of.values.get(model)
        if model == BASELINE:
            cells.append(Cell("1", detail="by definition"))
        elif one is None:
            cells.append(Cell("–"))
        else:
            cells.append(Cell(f"{one.difference:.3f}", detail=f"{one.low:.3f} to {one.high:.3f}"))
    return cells


def _seeds(every: Sequence[Measure], model: str) -> int:
    return max((len(measure.samples.get(model, ())) for measure in every), default=0)


def _incomplete(every: Sequence[Measure], finalists: list[str]) -> list[str]:
    """Models that some measure leaves out, as their scores are not all there."""
    return [m for m in finalists if any(len(one.samples.get(m, ())) < _seeds(every, m) for one in every)]


def _trial_row(trial: Trial, run: Run, names: list[str]) -> list[Cell]:
    best = {o: min((t.objectives[o] or 1 for t in run.of_state("COMPLETE")), default=None) for o in run.objectives}
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state, trial.state)
    cells = [
        Cell("baseline" if trial.kind == "baseline" else f"{trial.number:03d}", trial.number),
        Cell(words, trial.state, trial.reason, trial.state.lower()),
    ]
    for objective, value in trial.objectives.items():
        is_best = trial.state == "COMPLETE" and value is not None and value == best[objective]
        cells.append(Cell(value_words(objective, value), value, mark="best" if is_best else ""))
    cells += [Cell(str(trial.epochs), trial.epochs), Cell(duration(trial.seconds), trial.seconds)]
    for name in names:
        value = trial.parameters.get(name)
        cells.append(Cell("" if value is None else short_value(value), value, mark="parameter"))
    return [*cells, Cell(trial.summary, trial.summary, mark="summary")]


def _figures_json(plots: Mapping[str, go.Figure]) -> Markup:
    """For a script element: no character in it can end that."""
    text = "{" + ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in plots.items()) + "}"
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


@cache
def _template() -> jinja2.Template:
    """Everything that is put in is escaped, unless it says itself that it need not be."""
    loader = jinja2.FunctionLoader(lambda name: (files("raycnn.reporting") / "templates" / name).read_text("utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    environment.filters["value"] = value_words
    environment.filters["words"] = objective_words
    environment.filters["zip_words"] = lambda names: [(name, objective_words(name)) for name in names]
    return environment.get_template("report.html.jinja")
