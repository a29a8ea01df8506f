"""Scores in words: values, intervals, differences, and which of them are real."""

from raycnn.robustness.statistics import Comparison, Estimate
from raycnn.robustness.summary import Measure


def estimate_words(of: Estimate, share: bool = True) -> str:
    """ "5.12 ± 0.11 %", mean and standard deviation over seeds, that no line breaks; without the ± for one seed."""
    scale, digits, unit = (100, 2, " %") if share else (1, 3, "")
    deviation = f" ± {of.deviation * scale:.{digits}f}" if of.deviation is not None else ""
    return f"{of.value * scale:.{digits}f}{deviation}{unit}".replace(" ", "\N{NO-BREAK SPACE}")


def interval_words(of: Estimate, share: bool = True) -> str:
    """ "4.81 to 5.43" """
    scale, digits = (100, 2) if share else (1, 3)
    return f"{of.low * scale:.{digits}f} to {of.high * scale:.{digits}f}"


def difference_words(of: Comparison) -> str:
    """In percentage points with the 95 % interval: "0.77 points fewer, 95 % interval 0.59 to 0.94, p = 0.002"."""
    if not of.differs:
        return f"{_not_shown(of)}, 95 % interval {_signed(of.low)} to {_signed(of.high)} points, {p_words(of)}"
    more = "more" if of.difference > 0 else "fewer"
    low, high = sorted((abs(of.low) * 100, abs(of.high) * 100))
    of_what = "" if of.real else ", of these two networks"
    return (
        f"{abs(of.difference) * 100:.2f} points {more}{of_what}, 95 % interval {low:.2f} to {high:.2f}, {p_words(of)}"
    )


def difference_short(of: Comparison, share: bool = True) -> str:
    """For a table's cell: "−0.77 (−0.94 to −0.59)"."""
    words = _with_interval(of.difference, of.low, of.high, share)
    return words if of.real else f"{words}: {'single trainings' if of.differs else _not_shown(of)}"


def _not_shown(of: Comparison) -> str:
    return "two seeds cannot show a difference" if min(of.seeds) == 2 else "no difference shown"


def difference_from(value: float, of: Estimate) -> str:
    """As `difference_short`, of an estimate minus a share that is taken as it is, without a chance of its own."""
    return _with_interval(of.value - value, of.low - value, of.high - value)


def p_words(of: Comparison) -> str:
    """Corrected: "p = 0.02", or "p < 0.001"."""
    return "p < 0.001" if of.holm < 0.001 else f"p = {of.holm:.2g}"


def _with_interval(difference: float, low: float, high: float, share: bool = True) -> str:
    return f"{_signed(difference, share)} ({_signed(low, share)} to {_signed(high, share)})"


def _signed(value: float, share: bool = True) -> str:
    """Shares in points; with a true minus."""
    return (f"{value * 100:+.2f}" if share else f"{value:+.3f}").replace("-", "−")


def verdict(measure: Measure) -> str:
    """Of every pair of models, which is the lower one, or that nothing was shown."""
    real, networks, few, rest = [], [], [], []
    for (ours, theirs), found in measure.pairs.items():
        lower, higher = (ours, theirs) if found.difference < 0 else (theirs, ours)
        size = abs(found.difference)
        by = f"{size * 100:.2f} points" if measure.share else f"{size:.3f}"
        words = f"{lower} is lower than {higher} by {by} ({p_words(found)})"
        if found.real:
            real.append(words)
        elif found.differs:
            networks.append(words)
        else:
            (few if min(found.seeds) == 2 else rest).append(f"{ours} and {theirs} ({p_words(found)})")
    sentences = [f"{'; '.join(real)}."] if real else []
    if networks:
        of_networks = "so much of these networks; of how they were trained, single trainings show nothing"
        sentences.append(f"{'; '.join(networks)}: {of_networks}.")
    if few:
        sentences.append(f"Two seeds cannot show a difference between {', '.join(few)}.")
    if rest:
        sentences.append(f"No difference shown between {', '.join(rest)}.")
    return " ".join(sentences)
