"""Numbers as a reader wants them. Errors are fractions everywhere else; here they become percent."""

import math
from collections.abc import Mapping


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


def counted(number: int, noun: str) -> str:
    """ "1 epoch", "1,000 epochs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def byte_words(count: float) -> str:
    """ "1.23 GB", "45.6 MB", "789 kB" """
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.0f} kB"


def short_value(value: object) -> str:
    """A parameter's value: three significant digits, as few characters as that takes."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}" if math.isfinite(value) else str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def factor(objective: str) -> float:
    """What an objective is multiplied with to be shown: errors are shown in percent, all else as it is."""
    return 100.0 if objective.endswith("_error") else 1.0


def suffix(objective: str) -> str:
    """Of numbers on an objective's axis."""
    return " %" if objective.endswith("_error") else ""


def value_words(objective: str, value: float | None) -> str:
    """ "12.34 %" of an error, "7.1 s" of a time, "1.08 M" of images, three digits of all else; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if objective.endswith("_error"):
        return percent(value)
    if objective == "cost/seconds":
        return duration(value)
    if objective == "cost/images":
        return f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value / 1e3:.3g} k"
    return short_value(float(value))


def objective_words(objective: str) -> str:
    """ "val/corruption_error" is "corruption error"."""
    return _bare(objective)


def short_objective(objective: str) -> str:
    """ "val/corruption_error" is "corruption"."""
    return _bare(objective.removesuffix("_error"))


def _bare(objective: str) -> str:
    known = {"cost/images": "images trained", "cost/seconds": "training time"}
    return known.get(objective) or objective.removeprefix("val/").replace("_", " ")


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
