"""What came out, in words: the paragraph at the top of the report, and the cells of its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raycnn.reporting.figures import pareto
from raycnn.reporting.luck import luck_sentences
from raycnn.reporting.results import Run, Trial
from raycnn.reporting.score_words import difference_words, estimate_words
from raycnn.reporting.words import objective_words, value_words
from raycnn.robustness.statistics import Comparison
from raycnn.robustness.summary import BASELINE, Measure, corruption_measure, models


@dataclass(frozen=True, slots=True)
class Answer:
    """headline: one sentence. sentences: the paragraph below it."""

    headline: str
    sentences: tuple[str, ...]


def chosen_trial(run: Run) -> Trial | None:
    """The trial that the report speaks of: the complete one (not the baseline) with the least sum of objectives.

    Each objective is scaled to its range over all such trials: the first finalist by the rule of search/front.py. Only
    validation errors count, so test images choose nothing. Where finalists were scored, it is one of them.
    """
    done = [t for t in run.of_state("COMPLETE") if t.kind != "baseline" and None not in t.objectives.values()]
    low = {name: min(t.objectives[name] or 0 for t in done) for name in run.objectives} if done else {}
    span = {name: (max(t.objectives[name] or 0 for t in done) - low[name]) or 1 for name in low}
    scored = [t for t in done if t.name in scored_models(run)]
    return min(
        scored or done, key=lambda t: sum(((t.objectives[o] or 0) - low[o]) / span[o] for o in low), default=None
    )


def scored_models(run: Run) -> list[str]:
    """The baseline first, then the others by name."""
    return models(row.model for row in run.rows or ())


def answer(run: Run, every: Sequence[Measure]) -> Answer:
    """`every`: the measures of the scored models."""
    trial = chosen_trial(run)
    if trial is None:
        return Answer("No trial of the search has run to its end yet.", _data_sentences(run))
    if trial.name not in scored_models(run):
        return _unscored(run, trial)
    clean = next((measure for measure in every if measure.kind == "clean"), None)
    spoken = [measure for measure in (clean, corruption_measure(every)) if measure and trial.name in measure.samples]
    places = ["clean images" if measure.kind == "clean" else "corrupted images" for measure in spoken]
    found = [measure.pairs for measure in spoken]
    sentences = [
        _compared(trial.name, measure, pairs, first=place == 0)
        for place, (measure, pairs) in enumerate(zip(spoken, found, strict=True))
    ]
    sentences.append(_choice(run, trial))
    sentences += luck_sentences(run, trial, clean)
    sentences += _seed_sentences(spoken, trial.name)
    verdicts = [_verdict(pairs.get((trial.name, BASELINE))) for pairs in found]
    return Answer(_headline(trial.name, places, verdicts), (*sentences, *_data_sentences(run)))


def _compared(model: str, measure: Measure, pairs: Mapping[tuple[str, str], Comparison], first: bool) -> str:
    own = measure.estimate(model)
    set_name, _, over = measure.title.partition(": error, ")
    place = f"{measure.images:,} test images" if measure.kind == "clean" else f"{set_name} ({over}, at 5 severities)"
    seeds = "one seed" if own.seeds == 1 else f"mean ± standard deviation over {own.seeds} seeds"
    note = f" ({seeds})" if first else ""
    if BASELINE not in measure.samples:
        return f"On {place} {model} errs on {estimate_words(own)}{note}; the baseline was not scored."
    theirs = measure.estimate(BASELINE)
    errors = f"{model} errs on {estimate_words(own)}, the untuned baseline on {estimate_words(theirs)}"
    return f"On {place} {errors}{note}: {difference_words(pairs[model, BASELINE])}."


def _verdict(found: Comparison | None) -> str:
    if found is None:
        return "unknown"
    return "none" if not found.real else "more" if found.difference > 0 else "fewer"


def _headline(model: str, places: list[str], verdicts: list[str]) -> str:
    if not verdicts or "unknown" in verdicts:
        return f"{model} was scored; there is no baseline to compare it with."
    on = {v: " and on ".join(p for p, verdict in zip(places, verdicts, strict=True) if verdict == v) for v in verdicts}
    if set(on) == {"none"}:
        return f"No difference between {model} and the untuned baseline was shown on {on['none']}."
    words = {
        "fewer": "fewer errors than the untuned baseline on {}",
        "more": "more errors than the untuned baseline on {}",
    }
    parts = [words[verdict].format(on[verdict]) for verdict in words if verdict in on]
    rest = f"; no difference was shown on {on['none']}" if "none" in on else ""
    return f"{model} makes {', and '.join(parts)}{rest}."


def _choice(run: Run, trial: Trial) -> str:
    rule = (
        "its validation error alone"
        if len(run.objectives) == 1
        else "validation errors alone, as the knee of their front"
    )
    return f"{trial.name} ({trial.summary}) was picked by {rule}: no test image had a say."


def _seed_sentences(spoken: Sequence[Measure], model: str) -> list[str]:
    counts = [len(measure.samples[name]) for measure in spoken for name in (model, BASELINE) if name in measure.samples]
    fewest = min(counts, default=0)
    if fewest == 1:
        return ["One seed has no spread: whether another would say the same is unknown."]
    if fewest == 2:
        return ["Two seeds are very few: only large differences stand out from chance, and the spreads are vague."]
    return []


def _unscored(run: Run, trial: Trial) -> Answer:
    errors = " and ".join(
        f"{objective_words(name)} {value_words(name, value)}" for name, value in trial.objectives.items()
    )
    count = len(run.trials)
    front = len(pareto(run))
    place = f"the knee of a front of {front} trials" if front > 1 else "alone on the front"
    sentences = [f"{trial.name} ({trial.summary}) is {place}."]
    if len(run.objectives) == 1:
        sentences = [f"{trial.name} is {trial.summary}."]
    baseline = next((t for t in run.of_state("COMPLETE") if t.kind == "baseline"), None)
    if baseline:
        theirs = " and ".join(
            f"{objective_words(name)} {value_words(name, value)}" for name, value in baseline.objectives.items()
        )
        sentences.append(f"The untuned baseline has {theirs}.")
    sentences.append(
        f"Each is one training, and the best of {count} was picked by these very numbers: expect worse on new images."
    )
    off = run.spec.finals == "off"
    sentences.append(
        "Finals are off, so nothing was scored on test images." if off else "The finals are not scored yet."
    )
    return Answer(f"Best in validation: {trial.name}, with {errors}.", (*sentences, *_data_sentences(run)))


def _data_sentences(run: Run) -> tuple[str, ...]:
    if not run.unofficial:
        return ()
    words = f"The images are unofficial copies of {run.spec.data.name} (data.verify: false)"
    return (f"{words}: do not set these numbers beside published ones.",)
