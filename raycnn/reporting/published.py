"""A recipe's numbers, and beside them what was published, where that was measured in the same setting."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raycnn.reporting.score_words import difference_from, estimate_words, interval_words
from raycnn.reporting.text import aligned
from raycnn.robustness.summary import Measure
from raycnn.spec.data import DataSpec
from raycnn.spec.reading import HOW
from raycnn.spec.recipe import Published, Recipe, Setting

_ASIDE = {"data.root", "data.verify", "data.seed", "training.seed", *(f"training.{name}" for name in HOW)}
"""Keys that say where images are, how something is computed or with which random numbers: no setting."""


def results_text(recipe: Recipe, every: Sequence[Measure], origins: Mapping[str, str]) -> list[str]:
    """Lines: a table of the numbers, then what was published and is not in it, with the reason.

    every: numbers of one model named as the recipe. origins: of benchmark files, by set.
    """
    lacking = [(figure, _lacking(figure, recipe, every, origins)) for figure in recipe.published]
    beside = [figure for figure, why in lacking if not why]
    seeds = every[0].estimate(recipe.name).seeds
    head = ["", f"mean ± deviation of {seeds} trainings" if seeds > 1 else "one training", "95 % interval"]
    rows = [[*head, *(["published", "difference, 95 % interval", "source"] if beside else [])]]
    for measure in every:
        of = measure.estimate(recipe.name)
        own = [measure.key, estimate_words(of, measure.share), interval_words(of, measure.share)]
        figures = [
            [_published(figure), difference_from(figure.value, of), figure.source]
            for figure in beside
            if figure.metric == measure.key
        ]
        rows += [[*own, *figure] for figure in figures or [[""] * (len(rows[0]) - len(own))]]
    lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in aligned(rows)]
    if seeds == 1:
        lines.append("The intervals are of the test images alone: one training does not show how much seeds differ.")
    return [*lines, *(why for _, why in lacking if why)]


def _lacking(figure: Published, recipe: Recipe, every: Sequence[Measure], origins: Mapping[str, str]) -> str:
    """Why a figure is not in the table, in one line; "" where it is."""
    if figure.of is None:
        return (
            f"{figure.metric}: {_published(figure)} was published ({figure.source}); its setting (of) is not named, so "
            "it is not compared."
        )
    differing = list(_differing(figure.of, recipe, origins.get(figure.metric.partition("/")[0])))
    if differing:
        theirs, ours = (", ".join(words) for words in zip(*differing, strict=True))
        return f"{figure.metric}: published figures are of {theirs}; here {ours}: not compared."
    if figure.metric not in {measure.key for measure in every}:
        return f"{figure.metric}: {_published(figure)} was published ({figure.source}); it was not measured here."
    return ""


def _differing(theirs: Setting, ours: Recipe, origin: str | None) -> Iterator[tuple[str, str]]:
    """Each difference of the settings: as it is published, as it is here."""
    aside = set(_ASIDE)
    if theirs.training.train_on == ours.training.train_on == "all":
        aside.add("data.validation")
    if theirs.data.name != ours.data.name:  # then their other keys are of different things
        aside |= {f"data.{key}" for key in DataSpec.model_fields if key != "name"}
    fields = {"data", "training"}
    for key, their, our in _differences(theirs.model_dump(include=fields), ours.model_dump(include=fields)):
        if key not in aside:
            name = key.removeprefix("training.")
            yield f"{name} {_words(their)}", f"{name} {_words(our)}"
    if ours.data.name.startswith("cifar") and not ours.data.verify:
        yield "official images", "unofficial copies (data.verify: false)"
    if origin and not origin.startswith("official"):
        yield "official benchmark files", f"files {origin}"


def _differences(theirs: Any, ours: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs:
            yield from _differences(theirs[key], ours[key], (*path, key))
    elif theirs != ours:
        yield ".".join(path), theirs, ours


def _words(value: Any) -> str:
    return "off" if value is None else "on" if isinstance(value, dict) else str(value)


def _published(figure: Published) -> str:
    deviation = f" ± {100 * figure.deviation:.2f}" if figure.deviation is not None else ""
    return f"{100 * figure.value:.2f}{deviation} %" + (f" (n = {figure.trainings})" if figure.trainings else "")
