"""What pydantic finds wrong, in words: what is expected, what came, and the mend."""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from raycnn.spec.trial import Optimizer

_BOUNDS = {
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
}
_NOUNS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "finite": "a finite number",
}
_FORMS = {
    "@constant": "a constant",
    "@range": "a range {type: …, low: …, high: …}",
    "@choice": "a choice {choice: …}",
    "@off": "off",
    "@form": "its values",
}
TAGS = frozenset(_FORMS) | {"@word", "@value"}  # what pydantic puts into a place that is no key
_METRICS = {  # what others call them
    "error": "clean_error",
    "robustness": "corruption_error",
    "mce": "corruption_error",
    "time": "seconds",
    "flops": "images",
}
_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false", "y": "true", "n": "false"}


def message(error: Mapping[str, Any]) -> str:
    """One line for one entry of `ValidationError.errors()`."""
    kind, got, context = error["type"], error.get("input"), error.get("ctx", {})
    tag = str(error["loc"][-1]) if error["loc"] else ""
    noun = _NOUNS.get(kind.split("_")[0]) if kind.endswith(("_type", "_parsing", "_from_float", "_number")) else None
    if kind == "json_invalid":
        return "holds a character that does not exist, such as \\ud800. Remove it."
    if kind == "missing":
        return f"is missing. Add {'type: float or type: int' if tag == 'type' else 'it'}."
    if kind == "literal_error" and tag == "@off":
        mend = "Write off" if got in (None, False, "no") else "Write one of these"
        return f"must be off, its values {{…}} or a choice {{choice: {{…}}}}, got {_shown(got)}. {mend}."
    if kind == "literal_error":
        other = "" if tag != "@word" else " or its values" if context["expected"] == "'off'" else " or a number"
        mend = _choice(got) if tag == "@constant" and isinstance(got, list) else _nearest(got, context["expected"])
        return f"must be {context['expected']}{other}, got {_shown(got)}. {mend}"
    if kind == "string_pattern_mismatch":
        return f"may hold letters, digits, '.', '_' and '-', got {_shown(got)}. Rename it."
    if kind == "too_short":
        return "is empty. Name at least one."
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}, got {_shown(got)}. Change it."
    if kind.startswith("union_tag"):
        forms = [words for tag, words in _FORMS.items() if f"'{tag}'" in str(context.get("expected_tags", _FORMS))]
        return f"must be {either(forms)}, got {_shown(got)}. Change it."
    if noun and tag == "@constant" and isinstance(got, list):
        return f"must be {noun}, got {_shown(got)}. {_choice(got)}"
    if noun:
        return f"must be {noun}, got {_shown(got)}. {_retyped(noun, got, tag)}."
    return str(error["msg"])


def _shown(got: Any) -> str:
    text = "nothing" if got is None else json.dumps(got, default=str, ensure_ascii=False)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def either(words: list[str]) -> str:
    """ "a, b or c"."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _choice(got: list[Any]) -> str:
    """The mend for a list in the place of a parameter's values; of two numbers, it may have been meant as a range."""
    as_choice = f"Write {{choice: {_flow(got) if len(got) <= 8 else '[…]'}}}"
    numbers = [type(value) for value in got if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(got) == len(numbers) == 2 and got[0] < got[1]:
        kind = "int" if numbers == [int, int] else "float"
        return f"{as_choice}, or all between: {{type: {kind}, low: {got[0]}, high: {got[1]}}}."
    return f"{as_choice}."


def _flow(got: Any) -> str:
    """As YAML on one line, without quotes where it needs none."""
    if isinstance(got, list):
        return f"[{', '.join(map(_flow, got))}]"
    return got if isinstance(got, str) and re.fullmatch(r"[A-Za-z][\w/.-]*", got) else _shown(got)


def _nearest(got: Any, expected: str) -> str:
    """The nearest of the names in `expected`. Other tools maximise accuracies, and look at the test images."""
    known, words = re.findall(r"'([^']*)'", expected), str(got).lower()
    asked = re.sub(r"acc(uracy)?(?![a-z])", "error", words)
    near = difflib.get_close_matches(_METRICS.get(asked, asked), known, n=1, cutoff=0.4)
    if not near:
        return "Choose one."
    searched = known[0].startswith("val/")
    minimised = " Errors are minimised, not accuracies maximised." if searched and "acc" in words else ""
    unseen = " A search never sees the test images." if searched and "test" in words else ""
    return f"Did you mean {near[0]}?{minimised}{unseen}"


def _optimizers(wish: Any) -> list[str]:
    """The one whose name is nearest, else all."""
    known = list(Optimizer.model_fields)
    return difflib.get_close_matches(str(wish).lower(), known, n=1, cutoff=0.5) or known


def _retyped(noun: str, got: Any, key: str) -> str:
    """The mend for a value of the wrong type at `key`."""
    if noun == _NOUNS["list"] and isinstance(got, str | int | float):
        return f"Write {_flow([got])}"
    if noun == _NOUNS["model"] and isinstance(got, str) and key in ("data", "schedule"):
        return f"Write {{name: {_flow(got)}}}"
    if noun == _NOUNS["model"] and isinstance(got, str) and key in ("optimizer", "baseline"):
        return f"Write {either([f'{{{name}: {{lr: …}}}}' for name in _optimizers(got)])}"
    if noun == _NOUNS["model"] and isinstance(got, list) and key == "optimizer":
        return (
            f"Write {{choice: {{{', '.join(f'{name}: {{lr: …}}' for one in got for name in _optimizers(one)[:1])}}}}}"
        )
    if noun == _NOUNS["bool"] and isinstance(got, str):
        word = got.lower()
        return "Write it without quotes" if word in ("true", "false") else f"Write {_TRUTH.get(word, 'one of the two')}"
    if noun == _NOUNS["int"] and isinstance(got, float) and got.is_integer():
        return f"Write {int(got)}"
    if (
        noun in (_NOUNS["int"], _NOUNS["float"])
        and isinstance(got, str)
        and re.fullmatch(r"\s*[-+.\d][-+.\deE]*\s*", got)
    ):
        return "Write it without quotes"
    if noun == _NOUNS["string"] and isinstance(got, int | float):
        return "Write it in quotes"
    return "Change it" if got is not None else "Give one"
