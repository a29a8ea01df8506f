"""What was run, as terms and their descriptions, for the report's setup section."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from raycnn.reporting.parameter_figures import parameter_label
from raycnn.reporting.results import Run
from raycnn.reporting.words import duration, objective_words, short_value
from raycnn.spec.search import Finals
from raycnn.spec.space import FloatRange, IntRange, Named, parameters

Facts = dict[str, str]
_MOST_NAMES = 20


def setup_facts(run: Run) -> dict[str, Facts]:
    """Groups of facts by title; what the run directory does not tell is left out."""
    groups = {"Training": _training(run), "Search": _search(run), "Machine": _machine(run)}
    return {title: {term: text for term, text in facts.items() if text} for title, facts in groups.items()}


def space_rows(run: Run) -> list[tuple[str, str, str]]:
    """Each searched parameter: name, range in words, and where it exists."""
    return [
        (
            parameter_label(named.name),
            _range(named),
            " and ".join(f"{name} is {branch}" for name, branch in named.condition),
        )
        for named in parameters(run.spec.space)
    ]


def day(time: datetime | None) -> str:
    """ "14 March 2026, 09:26 UTC"; nothing for None. Hours are those of the time's own zone."""
    return f"{time.day} {time:%B %Y, %H:%M} {time.tzname() or ''}".strip() if time else ""


def _training(run: Run) -> Facts:
    spec, data = run.spec, run.manifest.data
    counts = [f"{int(data[part]):,} {part}" for part in ("train", "validation", "test") if data.get(part, "").isdigit()]
    digests = {"data digest": "digest", "split digest": "split_digest"}
    return {
        "data": f"{spec.data.name}{', unofficial copy' if run.unofficial else ''}",
        "images": ", ".join(counts) + (f", {side} × {side} pixels" if (side := data.get("side_px")) else ""),
        "classes": _names(run.manifest.classes),
        "left out": data.get("left_out", ""),
        "duplicates": " ".join(run.manifest.duplicates),
        **{term: data.get(key, "")[:16] for term, key in digests.items()},
        "model": spec.model,
        "budget": f"{spec.budget.epochs} epochs, batch size {spec.budget.batch_size:,}",
        "precision": spec.trainer.precision + (", compiled" if spec.trainer.compile else ""),
    }


def _search(run: Run) -> Facts:
    search, finals = run.spec.search, run.spec.finals
    states = {state: len(run.of_state(state)) for state in ("COMPLETE", "PRUNED", "FAIL")}
    told = ", ".join(
        f"{count} {word}"
        for word, count in zip(("complete", "pruned", "failed"), states.values(), strict=True)
        if count
    )
    scheduler = {
        "asha": f"asha, one in {search.reduction_factor} goes on",
        "hyperband": f"hyperband, one in {search.reduction_factor} goes on",
        "median": "the better half goes on",
        "none": "no early stopping",
    }[search.scheduler]
    final = "off"
    if isinstance(finals, Finals):
        epochs = finals.epochs or run.spec.budget.epochs
        final = (
            f"the best {finals.top} and the baseline, {finals.seeds} seeds each, {epochs} epochs on all training "
            f"images, scored on {', '.join(finals.score)}"
        )
    return {
        "trials": f"{len(run.trials)} of {search.trials}: {told}" if told else f"0 of {search.trials}",
        "objectives": ", ".join(map(objective_words, search.objectives)),
        "sampler": f"{search.sampler}, {search.startup_trials} random trials first"
        if search.sampler in ("tpe", "gp", "cmaes")
        else search.sampler,
        "scheduler": scheduler,
        **({"spent": spent} if (spent := _spent(run)) else {}),
        "finals": final,
        "seeds": _pairs(run.manifest.seeds) or f"search {search.seed}, split {run.spec.data.seed}",
    }


def _spent(run: Run) -> str:
    """Of all trials, without finals and scoring."""
    hours = {"CPU": sum(t.cpu_hours for t in run.trials), "GPU": sum(t.gpu_hours for t in run.trials)}
    return ", ".join(f"{value:.3g} {unit}-hours" for unit, value in hours.items() if value)


def _machine(run: Run) -> Facts:
    manifest = run.manifest
    slots = f"{manifest.slots} slots" if manifest.slots else ""
    workers = f"{manifest.workers} worker{'s' if manifest.workers != 1 else ''} a trial" if manifest.workers else ""
    took = manifest.started and manifest.finished and (manifest.finished - manifest.started).total_seconds()
    return {
        "hardware": manifest.hardware,
        "slots": ", ".join(filter(None, [slots, workers])),
        "versions": _pairs(manifest.versions),
        "code": manifest.git,
        "started": day(manifest.started),
        "finished": day(manifest.finished) + (f", after {duration(took)}" if took else ""),
        "command": manifest.command,
    }


def _names(names: Sequence[str]) -> str:
    """ "3: ant, bee, cat"; of many the first ones. Empty for none."""
    more = ", …" if len(names) > _MOST_NAMES else ""
    return f"{len(names):,}: {', '.join(names[:_MOST_NAMES])}{more}" if names else ""


def _pairs(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _range(named: Named) -> str:
    form = named.parameter
    if isinstance(form, FloatRange | IntRange):
        step = f", step {short_value(form.step)}" if form.step not in (None, 1) else ""
        log = ", log scale" if form.log else ""
        return f"{short_value(form.low)} to {short_value(form.high)}{step}{log}"
    return ", ".join(short_value(option) for option in form.choice)
