"""A YAML file and `--set` flags become a SearchSpec; what is wrong becomes one line with file, line, key and mend."""

import difflib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from raycnn.errors import SpecError
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import FloatRange, IntRange, Parameter, parameters, resolve
from raycnn.spec.trial import TrialSpec


def read_search(path: Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """The search of a YAML 1.2 file, with `key.path=value` overrides (values are YAML too).

    Raises SpecError with one line for each mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}). Give the path of a search space file.") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: is not UTF-8 text. Give the path of a search space file.") from None
    return search_from_text(text, str(path), overrides)


def search_from_text(text: str, where: str, overrides: Sequence[str] = ()) -> SearchSpec:
    """As `read_search`, from the file's text; `where` names it in messages."""
    tree = _parse(text, where)
    if not isinstance(tree, dict):
        raise SpecError(f"{where}: holds no mapping. Start from search_spaces/joint.yaml.")
    for override in overrides:
        _set(tree, override)
    try:
        spec = SearchSpec.model_validate_json(json.dumps(tree, default=str))
        _check_limits(spec)
    except ValidationError as error:
        raise SpecError("\n".join(_line(where, tree, _location(e), _message(e)) for e in error.errors())) from None
    except _Wrong as error:
        raise SpecError(_line(where, tree, error.keys, error.message)) from None
    return spec


class _Wrong(Exception):
    def __init__(self, keys: tuple[str, ...], message: str) -> None:
        self.keys, self.message = keys, message


def _parse(text: str, where: str) -> Any:
    try:
        return YAML(typ="rt").load(io.StringIO(text))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecError(f"{where}{line}: is not YAML: {error.problem}. Mend that line.") from None


def _set(tree: Any, override: str) -> None:
    """Changes `tree`: puts the value of `key.path=value` at its place, through new mappings where needed."""
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise SpecError(f"--set {override}: is no key.path=value. Write for example --set budget.epochs=4.")
    for key in keys[:-1]:
        child = tree.get(key)
        if not isinstance(child, dict):
            tree[key] = child = {}
        tree = child
    tree[keys[-1]] = _parse(text, f"--set {path}")


def _check_limits(spec: SearchSpec) -> None:
    """Both ends of each range, and each option, must be a value that a training may have."""
    every = parameters(spec.space)
    for named in every:
        for end, value in _extremes(named.parameter):
            branch = dict(named.condition) | ({named.name: value} if isinstance(value, str) else {})

            def suggest(name: str, parameter: Parameter, named=named, value=value, branch=branch) -> Any:
                if name == named.name:
                    return value
                return branch.get(name) or _extremes(parameter)[0][1]

            try:
                trial_spec(spec, resolve(spec.space, suggest), seed=0)
            except ValidationError as error:
                first = error.errors()[0]
                raise _Wrong(("space", *named.keys, *end), _message(first)) from None
    if not every:
        try:
            trial_spec(spec, resolve(spec.space, lambda name, parameter: 0), seed=0)
        except ValidationError as error:
            raise _Wrong(("space", *map(str, error.errors()[0]["loc"])), _message(error.errors()[0])) from None


def trial_spec(spec: SearchSpec, values: dict[str, Any], seed: int, **changes: Any) -> TrialSpec:
    """The training that `values`, a resolved space, asks for. `changes` replace fields of the TrialSpec."""
    fields = {
        "model": spec.model,
        "epochs": spec.budget.epochs,
        "batch_size": spec.budget.batch_size,
        "precision": spec.trainer.precision,
        "compile": spec.trainer.compile,
        "seed": seed,
    }
    return TrialSpec.model_validate(fields | values | changes)


def _extremes(parameter: Parameter) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(parameter, FloatRange | IntRange):
        return [(("low",), parameter.low), (("high",), parameter.high)]
    return [(("choice",), value) for value in parameter.choice]


def _location(error: Any) -> tuple[str | int, ...]:
    return (*error["loc"], error["ctx"]["key"]) if error["type"] == "unknown_key" else error["loc"]


def _line(where: str, tree: Any, loc: Sequence[str | int], message: str) -> str:
    keys = [key for key in loc if not str(key).startswith("@")]
    line = _line_number(tree, keys)
    path = ".".join(map(str, keys))
    return f"{where}{f':{line}' if line else ''}: {f'{path}: ' if path else ''}{message}"


def _line_number(tree: Any, keys: Sequence[str | int]) -> int | None:
    """The line of the deepest key of the path that stands in the file; None where a --set put it."""
    line = None
    for key in keys:
        position = getattr(tree, "lc", None)
        try:
            line = position.data[key][0] + 1 if position else None
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            break
    return line


def _message(error: Any) -> str:
    kind, got, context = error["type"], error.get("input"), error.get("ctx", {})
    shown = "nothing" if got is None else json.dumps(got, default=str, ensure_ascii=False)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    number = {
        "greater_than": "> {gt}",
        "greater_than_equal": ">= {ge}",
        "less_than": "< {lt}",
        "less_than_equal": "<= {le}",
    }
    noun = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "a text",
        "list": "a list",
        "dict": "a mapping",
        "model": "a mapping",
        "finite": "a finite number",
        "path": "a path",
    }
    match kind:
        case "unknown_key":
            return f"unknown key. {context['mend']}"
        case "missing":
            return "is missing. Add it."
        case "literal_error":
            return f"must be {context['expected']}, got {shown}.{_nearest(got, context['expected'])}"
        case "string_pattern_mismatch":
            return f"may hold letters, digits, '.', '_' and '-', got {shown}. Rename it."
        case "too_short":
            return "is empty. Name at least one."
        case _ if kind in number:
            return f"must be {number[kind].format(**context)}, got {shown}. Change it."
        case _ if (key := kind.split("_")[0]) in noun and kind.endswith(
            ("_type", "_parsing", "_from_float", "_number")
        ):
            extra = (
                " Write it without quotes."
                if isinstance(got, str) and key in ("int", "float", "bool")
                else " Change it."
            )
            return f"must be {noun[key]}, got {shown}.{extra}"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"must be a constant, a range {{type, low, high}} or {{choice: …}}, got {shown}. Change it."
        case _:
            return str(error["msg"])


def _nearest(got: Any, expected: str) -> str:
    near = difflib.get_close_matches(str(got), re.findall(r"'([^']*)'", expected), n=1, cutoff=0.4)
    return f" Did you mean {near[0]}?" if near else " Choose one."
