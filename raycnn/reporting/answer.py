"""What came out, in words: the paragraph at the top of the report, and the cells of its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raycnn.reporting.figures import pareto
from raycnn.reporting.results import Run, Trial
from raycnn.reporting.score_words import difference_words, estimate_words
from raycnn.reporting.selection_bias import selection_bias
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
    sentences += selection_bias(run, trial, clean)
    sentences += _seed_sentences(spoken, trial.name)
    against = [pairs.get((trial.name, BASELINE)) for pairs in found]
    return Answer(_headline(trial.name, places, against), (*sentences, *_data_sentences(run)))


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


_VERDICTS = {
    "fewer": "{model} makes fewer errors than the untuned baseline on {places}",
    "more": "{model} makes more errors than the untuned baseline on {places}",
    "network fewer": "the network of {model} makes fewer errors than the untuned baseline's on {places}",
    "network more": "the network of {model} makes more errors than the untuned baseline's on {places}",
    "few seeds": "two seeds cannot show a difference{between} on {places}",
    "none": "no difference{between} was shown on {places}",
}


def _verdict(found: Comparison) -> str:
    if not found.differs:
        return "few seeds" if min(found.seeds) == 2 else "none"
    direction = "more" if found.difference > 0 else "fewer"
    return direction if found.real else f"network {direction}"


def _headline(model: str, places: Sequence[str], found: Sequence[Comparison | None]) -> str:
    """found: the comparison with the baseline on each of the places."""
    verdicts = [_verdict(one) for one in found if one]
    if not verdicts or len(verdicts) < len(found):
        return f"{model} was scored; there is no baseline to compare it with."
    clauses = []
    for verdict, words in _VERDICTS.items():
        on = [place for place, of_place in zip(places, verdicts, strict=True) if of_place == verdict]
        if on:
            between = "" if clauses else f" between {model} and the untuned baseline"
            clauses.append(words.format(model=model, places=" and on ".join(on), between=between))
    if any(verdict.startswith("network") for verdict in verdicts):
        clauses.append("a single training does not show whether the settings differ")
    text = "; ".join(clauses)
    return (text if text.startswith(model) else f"{text[0].upper()}{text[1:]}") + "."


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
        return [
            "Two seeds are very few: only large differences stand out from chance. Give finals.seeds three or more."
        ]
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
