"""Scores of some models as text: a table for each number, and what may be said of it."""

from collections.abc import Iterable, Mapping, Sequence

from raycnn.reporting.score_words import difference_short, estimate_words, interval_words, p_words, verdict
from raycnn.robustness.statistics import Comparison
from raycnn.robustness.summary import Measure, models


def measures_text(every: Sequence[Measure], reference: str | None = None) -> list[str]:
    """Lines. Each model's value with its deviation over seeds and its interval, then the verdict on every pair.

    reference: the model that the others are set against; default: the first.
    """
    lines: list[str] = []
    for measure in every:
        what = "videos" if measure.kind in ("flips", "ranking") else "images"
        lines += ["", f"{measure.title}  [{measure.key}, {measure.images:,} {what}]"]
        names = models(measure.samples)
        against = reference if reference in names else names[0]
        rows = []
        for name in sorted(names, key=lambda name: name != against):
            of = measure.estimate(name)
            seeds = f"{of.seeds} seeds" if of.seeds > 1 else "1 seed"
            row = [name, estimate_words(of, measure.share), interval_words(of, measure.share), seeds]
            rows.append([*row, "" if name == against else _difference(measure, name, against)])
        head = ["", "mean ± deviation", "95 % interval", "", f"against {against}" if len(names) > 1 else ""]
        lines += aligned([head, *rows])
        if len(names) > 1:
            lines.append(f"  {verdict(measure)}")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def effects_text(every: Sequence[tuple[Measure, Mapping[str, Comparison]]]) -> list[str]:
    """Lines: the effects of a factorial on each number."""
    lines: list[str] = []
    for measure, effects in every:
        seeds = next(iter(effects.values())).seeds[0]
        unit = "points" if measure.share else ""
        lines += ["", f"{measure.title}  [{measure.key}, {measure.images:,} images, {seeds} seeds]"]
        rows = [["effect of", unit, "95 % interval", "p, Holm"]]
        for name, one in effects.items():
            difference, _, interval = difference_short(one, measure.share).partition(" ")
            rows.append([name, difference, interval, p_words(one)])
        lines += aligned(rows)
    return lines[1:]


def _difference(measure: Measure, ours: str, theirs: str) -> str:
    found = measure.pairs.get((ours, theirs)) or measure.pairs[theirs, ours].mirrored
    return difference_short(found, measure.share)


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lines of a table, from rows of as many cells."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
