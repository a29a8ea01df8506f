"""What came out, in words: the paragraph at the top of the report, and the cells of its table."""

from collections.abc import Sequence
from dataclasses import dataclass

from raycnn.reporting.figures import pareto
from raycnn.reporting.results import Run, Trial
from raycnn.reporting.scores import Difference, Measure, Spread, corruption_measure, difference, models, spread
from raycnn.reporting.words import objective_words, percent


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
    scored = [t for t in done if t.name in models(run.scores or ())]
    return min(
        scored or done, key=lambda t: sum(((t.objectives[o] or 0) - low[o]) / span[o] for o in low), default=None
    )


def answer(run: Run, every: Sequence[Measure]) -> Answer:
    """`every`: the measures of the scored models."""
    trial = chosen_trial(run)
    if trial is None:
        return Answer("No trial of the search has run to its end yet.", _data_sentences(run))
    known = models(run.scores or ())
    if trial.name not in known:
        return _unscored(run, trial)
    clean = next((measure for measure in every if measure.kind == "clean"), None)
    spoken = [measure for measure in (clean, corruption_measure(every)) if measure and trial.name in measure.values]
    places = ["clean images" if measure.kind == "clean" else "corrupted images" for measure in spoken]
    sentences = [_compared(trial.name, measure, first=place == 0) for place, measure in enumerate(spoken)]
    sentences.append(_choice(run, trial))
    sentences += _seed_sentences(spoken, trial.name)
    verdicts = [_verdict(measure, trial.name) for measure in spoken]
    return Answer(_headline(trial.name, places, verdicts), (*sentences, *_data_sentences(run)))


def spread_words(of: Spread) -> str:
    """ "5.12 ± 0.11 %" that no line breaks; without the ± for one seed."""
    words = f"{of.mean * 100:.2f} ± {of.deviation * 100:.2f} %" if of.deviation is not None else percent(of.mean)
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def difference_words(of: Difference) -> str:
    """In percentage points with the 95 % interval: "0.77 points fewer, 95 % interval 0.59 to 0.94"."""
    if of.interval is None:
        return "no difference shown, for seeds are too few or all alike to have an interval"
    if not of.shown:
        return f"no difference shown, 95 % interval {_signed(of.interval[0])} to {_signed(of.interval[1])} points"
    more = "more" if of.mean > 0 else "fewer"
    ends = sorted(abs(end) * 100 for end in of.interval)
    return f"{abs(of.mean) * 100:.2f} points {more}, 95 % interval {ends[0]:.2f} to {ends[1]:.2f}"


def difference_short(of: Difference) -> str:
    """For a table's cell: "−0.77 (−0.94 to −0.59)"."""
    if of.interval is None:
        return f"{_signed(of.mean)}, no interval"
    words = f"{_signed(of.mean)} ({_signed(of.interval[0])} to {_signed(of.interval[1])})"
    return words if of.shown else f"{words}: no difference shown"


def _signed(fraction: float) -> str:
    """In points, with a true minus."""
    return f"{fraction * 100:+.2f}".replace("-", "−")


def _compared(model: str, measure: Measure, first: bool) -> str:
    own = spread(measure.values[model])
    set_name, _, over = measure.title.partition(": error, ")
    place = f"{measure.images:,} test images" if measure.kind == "clean" else f"{set_name} ({over}, at 5 severities)"
    seeds = "one seed" if own.n == 1 else f"mean ± standard deviation over {own.n} seeds"
    note = f" ({seeds})" if first else ""
    if "baseline" not in measure.values:
        return f"On {place} {model} errs on {spread_words(own)}{note}; the baseline was not scored."
    theirs = spread(measure.values["baseline"])
    words = difference_words(difference(measure.values[model], measure.values["baseline"]))
    errors = f"{model} errs on {spread_words(own)}, the untuned baseline on {spread_words(theirs)}"
    return f"On {place} {errors}{note}: {words}."


def _verdict(measure: Measure, model: str) -> str:
    if "baseline" not in measure.values:
        return "unknown"
    found = difference(measure.values[model], measure.values["baseline"])
    return "none" if not found.shown else "more" if found.mean > 0 else "fewer"


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
    counts = [
        len(values) for measure in spoken for values in (measure.values[model], measure.values.get("baseline", ()))
    ]
    fewest = min((count for count in counts if count), default=0)
    if fewest == 1:
        return ["One seed has no spread: whether another would say the same is unknown."]
    if fewest == 2:
        return ["Two seeds are very few: only large differences stand out from chance, and the spreads are vague."]
    return []


def _unscored(run: Run, trial: Trial) -> Answer:
    errors = " and ".join(f"{objective_words(name)} {percent(value)}" for name, value in trial.objectives.items())
    count = len(run.trials)
    front = len(pareto(run))
    place = f"the knee of a front of {front} trials" if front > 1 else "alone on the front"
    sentences = [f"{trial.name} ({trial.summary}) is {place}."]
    if len(run.objectives) == 1:
        sentences = [f"{trial.name} is {trial.summary}."]
    baseline = next((t for t in run.of_state("COMPLETE") if t.kind == "baseline"), None)
    if baseline:
        theirs = " and ".join(
            f"{objective_words(name)} {percent(value)}" for name, value in baseline.objectives.items()
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
