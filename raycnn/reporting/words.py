"""Numbers as a reader wants them. Errors are fractions everywhere else; here they become percent."""

import math
from collections.abc import Mapping

from raycnn.robustness.statistics import Comparison, Estimate
from raycnn.robustness.summary import Measure


def percent(fraction: float | None, digits: int = 2) -> str:
    """0.1234 is "12.34 %"; None or not a number is a dash."""
    if fraction is None or not math.isfinite(fraction):
        return "–"
    return f"{fraction * 100:.{digits}f} %"


def duration(seconds: float) -> str:
    """Two units at most: "0.8 s", "42 s", "3 min 05 s", "2 h 10 min", "1 d 4 h"."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def short_value(value: object) -> str:
    """A parameter's value: three significant digits, as few characters as that takes."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if math.isfinite(value) else str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def objective_words(objective: str) -> str:
    """ "val/corruption_error" is "corruption error"."""
    return objective.removeprefix("val/").replace("_", " ")


def short_objective(objective: str) -> str:
    """ "val/corruption_error" is "corruption"."""
    return objective.removeprefix("val/").removesuffix("_error").replace("_", " ")


def short_parameters(parameters: Mapping[str, object]) -> str:
    """One line: "sgd lr=0.031 weight_decay=5e-4, cutout holes=2 size_px=12". What is off, or None, is left out."""
    taken = {name: value for name, value in parameters.items() if value is not None and value != "off"}
    groups: dict[str, list[str]] = {}
    for name, value in taken.items():
        if any(other.startswith(f"{name}.") for other in taken):
            continue  # the values of the branch say which branch it is
        path, _, leaf = name.rpartition(".")
        words = groups.setdefault(path.removeprefix("optimizer.") or name, [path.removeprefix("optimizer.")])
        words.append(f"{leaf}={short_value(value)}")
    return ", ".join(" ".join(filter(None, words)) for words in groups.values())


def estimate_words(of: Estimate, share: bool = True) -> str:
    """ "5.12 ± 0.11 %", mean and standard deviation over seeds, that no line breaks; without the ± for one seed."""
    scale, unit = (100, " %") if share else (1, "")
    deviation = f" ± {of.deviation * scale:.2f}" if of.deviation is not None else ""
    return f"{of.value * scale:.2f}{deviation}{unit}".replace(" ", "\N{NO-BREAK SPACE}")


def interval_words(of: Estimate, share: bool = True) -> str:
    """ "4.81 to 5.43" """
    scale = 100 if share else 1
    return f"{of.low * scale:.2f} to {of.high * scale:.2f}"


def difference_words(of: Comparison) -> str:
    """In percentage points with the 95 % interval: "0.77 points fewer, 95 % interval 0.59 to 0.94, p = 0.002"."""
    if not of.real:
        return f"no difference shown, 95 % interval {_signed(of.low)} to {_signed(of.high)} points, {p_words(of)}"
    more = "more" if of.difference > 0 else "fewer"
    low, high = sorted((abs(of.low) * 100, abs(of.high) * 100))
    return f"{abs(of.difference) * 100:.2f} points {more}, 95 % interval {low:.2f} to {high:.2f}, {p_words(of)}"


def difference_short(of: Comparison, share: bool = True) -> str:
    """For a table's cell: "−0.77 (−0.94 to −0.59)"."""
    scale = 1.0 if share else 0.01
    difference, low, high = (_signed(value * scale) for value in (of.difference, of.low, of.high))
    words = f"{difference} ({low} to {high})"
    return words if of.real else f"{words}: no difference shown"


def p_words(of: Comparison) -> str:
    """Corrected: "p = 0.02"; the smallest that resampling can tell is "p < 0.001"."""
    return "p < 0.001" if of.holm < 0.001 else f"p = {of.holm:.2g}"


def _signed(fraction: float) -> str:
    """In points, with a true minus."""
    return f"{fraction * 100:+.2f}".replace("-", "−")


def verdict(measure: Measure) -> str:
    """Of every pair of models, which is the lower one, or that nothing was shown."""
    real, rest = [], []
    for (ours, theirs), found in measure.pairs.items():
        if found.real:
            lower, higher = (ours, theirs) if found.difference < 0 else (theirs, ours)
            scale, unit = (100, " points") if measure.share else (1, "")
            real.append(
                f"{lower} is lower than {higher} by {abs(found.difference) * scale:.2f}{unit} ({p_words(found)})"
            )
        else:
            rest.append(f"{ours} and {theirs} ({p_words(found)})")
    words = [f"{'; '.join(real)}."] if real else []
    if rest:
        words.append(f"No difference shown between {', '.join(rest)}.")
    if any(len(samples) < 2 for samples in measure.samples.values()):
        words.append("By a single training nothing is shown.")
    return " ".join(words)
