"""A YAML file and flags become a spec, or one line for each mistake: file, line, key, what came, mend."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from raycnn import __version__
from raycnn.digest import MARK, is_whole
from raycnn.errors import SpecError, one_line
from raycnn.invocation import undecodable
from raycnn.spec import unknown
from raycnn.spec.constraints import parse
from raycnn.spec.kinds import other_kind
from raycnn.spec.recipe import Recipe, Request
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import (
    FloatRange,
    IntRange,
    OptimizerSpace,
    Options,
    Parameter,
    branches,
    count_values,
    parameter_name,
    parameters,
    resolve,
)
from raycnn.spec.text import MOST_BYTES, plain, read_yaml
from raycnn.spec.trial import Spec, TrialSpec
from raycnn.spec.wording import TAGS, message

S = TypeVar("S", bound=Spec)

MOST_GRID_VALUES = 10_000  # of one parameter

RUN_SPEC = "spec.yaml"
"""The name of the file with the search that a run directory is of."""

NO_FLAGS: Mapping[str, str] = MappingProxyType({})


def read_search(path: Path, overrides: Sequence[str] = (), flags: Mapping[str, str] = NO_FLAGS) -> SearchSpec:
    """The search of a YAML 1.2 file, with `key.path=value` overrides (values are YAML too).

    flags: those beside --set that stand for an override, and for which: they are what a mistake is blamed on.
    Raises SpecError with one line for each mistake.
    """
    text = _text(path)
    try:
        spec = search_from_text(text, str(path), overrides, flags)
    except SpecError as error:
        first = str(error).splitlines()[0]
        if MARK not in text or not is_whole(text.encode()) or not first.startswith(f"{path}:"):
            raise
        raise SpecError(  # nobody has changed it since raycnn wrote it
            f"{first} A newer (or another) raycnn than this one, {__version__}, wrote it so. Use that one."
        ) from None
    # Recipes are looked for beside the file that names them.
    start = [_beside(path, recipe) for recipe in spec.search.start]
    return spec.model_copy(update={"search": spec.search.model_copy(update={"start": start})})


def _beside(file: Path, named: Path) -> Path:
    beside = (file.parent / named).absolute()
    found = beside if beside.exists() else named.absolute()
    if undecodable(str(found)):
        raise SpecError(f"search.start: {found} is not UTF-8, and a run could not name it. Rename it.")
    return found


def search_from_text(
    text: str, where: str, overrides: Sequence[str] = (), flags: Mapping[str, str] = NO_FLAGS
) -> SearchSpec:
    """As `read_search`, from the file's text; `where` names it in messages."""
    return _read(SearchSpec, text, where, overrides, flags, _check_search)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """As `read_search`, of the file of one training."""
    return _read(Recipe, _text(path), str(path), overrides, NO_FLAGS, lambda _: None)


def read_request(overrides: Sequence[str], flags: Mapping[str, str] = NO_FLAGS) -> Request:
    """As `read_search`, from flags alone."""
    return _read(Request, "data: {name: cifar10}", "--set", overrides, flags, lambda _: None)


def _text(path: Path) -> str:
    try:
        if (path / RUN_SPEC).is_file():
            raise SpecError(f"{path}: is the directory of a run. To resume it give {path / RUN_SPEC} and --run {path}.")
        if path.exists() and not path.is_file():
            raise SpecError(f"{path}: is no file (a directory or a device). Give the path of a YAML file.")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise SpecError(
                f"{path}: is longer than {MOST_BYTES:,} bytes. Give the path of a search space or a recipe."
            )
        return content.decode()
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError):
            raise SpecError(f"{path}: is not UTF-8 text. Give the path of a YAML file.") from None
        raise SpecError(f"{str(path)!r}: is no path ({error}). Give the path of a YAML file.") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}). Give the path of a YAML file.") from None


def _read(
    form: type[S],
    text: str,
    where: str,
    overrides: Sequence[str],
    flags: Mapping[str, str],
    check: Callable[[S], None],
) -> S:
    tree = read_yaml(text, where)
    if not isinstance(tree, dict):
        raise SpecError(f"{where}: holds no mapping. Start from one of the files in search_spaces.")
    if other := other_kind(form, tree, where):
        raise SpecError(f"{where}: {other}")
    sets = [_set(tree, "--set", override) for override in overrides]
    sets += [_set(tree, flag, override) for flag, override in flags.items()]
    try:
        spec = form.model_validate_json(json.dumps(plain(tree, where)))
        check(spec)
    except ValidationError as error:
        lines = [_line(where, tree, sets, _location(e), _words(form, e)) for e in error.errors()]
        raise SpecError("\n".join(lines)) from None
    except _Wrong as error:
        raise SpecError(_line(where, tree, sets, error.keys, error.message)) from None
    return spec


def trial_spec(spec: SearchSpec, values: dict[str, Any], seed: int, **changes: Any) -> TrialSpec:
    """The training that `values`, a resolved space, asks for. `changes` replace fields of the TrialSpec."""
    fields = {
        "model": spec.model,
        "epochs": spec.budget.epochs,
        "batch_size": spec.budget.batch_size,
        **{name: getattr(spec.trainer, name) for name in HOW},
        "seed": seed,
    }
    return TrialSpec.model_validate(fields | values | changes)


HOW = ("precision", "compile", "deterministic", "sync_batchnorm", "gradient_precision")  # Trainer's fields of a trial


class _Wrong(Exception):
    def __init__(self, keys: tuple[str | int, ...], message: str) -> None:
        self.keys, self.message = keys, message


@dataclass(frozen=True, slots=True)
class _Set:
    """A value that a flag has put into the file's tree, at the place `keys`."""

    flag: str
    keys: tuple[str, ...]

    def gave(self, keys: tuple[str, ...], absent: bool) -> bool:
        """Whether what stands at `keys` is its value; or, if that is absent, whether it lies on the way to it."""
        return keys[: len(self.keys)] == self.keys or (absent and self.keys[: len(keys)] == keys)


def _set(tree: Any, flag: str, override: str) -> _Set:
    """Changes `tree`: puts the value of `key.path=value` at its place, through new mappings where needed."""
    path, equals, text = override.partition("=")
    keys = tuple(path.split("."))
    if not equals or not all(keys):
        raise SpecError(f"{flag} {override}: is no key.path=value. Write for example {flag} budget.epochs=4.")
    for key in keys[:-1]:
        child = tree.get(key)
        # A copy: what has an anchor may stand elsewhere too (*name), where nothing was set.
        tree[key] = child = child.copy() if isinstance(child, dict) else {}
        tree = child
    tree[keys[-1]] = read_yaml(text, f"{flag} {path}")
    return _Set(flag, keys)


def _check_search(spec: SearchSpec) -> None:
    _check_limits(spec)
    _check_constraints(spec)
    _check_sampler(spec)


def _check_constraints(spec: SearchSpec) -> None:
    known = [named.name for named in parameters(spec.space)]
    for index, text in enumerate(spec.search.constraints):
        keys = ("search", "constraints", index)
        try:
            unknown = sorted(parse(text).names - set(known))
        except ValueError as error:
            raise _Wrong(keys, f"{text!r} {error}. Rewrite it.") from None
        if unknown:
            near = get_close_matches(unknown[0], known, 1)
            mend = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(known)}."
            raise _Wrong(keys, f"{unknown[0]} is no parameter of the space. {mend}")


def _check_sampler(spec: SearchSpec) -> None:
    """Not every sampler can serve every space."""
    sampler, named = spec.search.sampler, parameters(spec.space)
    keys = ("search", "sampler")
    if not named and spec.search.trials > 1 and sampler in ("gp", "cmaes", "qmc", "grid"):
        raise _Wrong(keys, f"{sampler} has nothing to search: the space has no parameter. Give one a range.")
    choices = [one.name for one in named if isinstance(one.parameter, Options)]
    if sampler == "cmaes" and choices:
        raise _Wrong(keys, f"cmaes models numbers alone, and {choices[0]} is a choice. Take tpe, gp or nsgaii.")
    endless = [one.name for one in named if isinstance(one.parameter, FloatRange) and not one.parameter.step]
    if sampler == "grid" and endless:
        raise _Wrong(keys, f"grid needs steps, and {endless[0]} has none. Give it a step, or take random.")
    for one in named if sampler == "grid" else ():
        if not isinstance(one.parameter, Options) and (values := count_values(one.parameter)) > MOST_GRID_VALUES:
            raise _Wrong(
                keys, f"grid would take {values:,} values of {one.name}. Give it a larger step, or take random."
            )


def _check_limits(spec: SearchSpec) -> None:
    """Each constant, both ends of each range and each option must be a value that a training may have."""
    probes = [
        dict(named.condition) | {named.name: value}
        for named in parameters(spec.space)
        for _, value in _extremes(named.parameter)
    ]
    for probe in probes or [{}]:
        asked: dict[str, Any] = {}

        def suggest(name: str, parameter: Parameter, probe=probe, asked=asked) -> Any:
            asked[name] = probe.get(name, _extremes(parameter)[0][1])
            return asked[name]

        try:
            trial_spec(spec, resolve(spec.space, suggest), seed=0)
        except ValidationError as error:
            first = error.errors()[0]
            raise _Wrong(("space", *_place(spec.space, first["loc"], asked)), message(first)) from None


def _extremes(parameter: Parameter) -> list[tuple[tuple[str | int, ...], Any]]:
    """The values of a parameter that must be allowed, each with the keys below the parameter that give it."""
    if isinstance(parameter, FloatRange | IntRange):
        return [(("low",), parameter.low), (("high",), parameter.high)]
    return [(("choice", index), value) for index, value in enumerate(parameter.choice)]


def _place(
    node: Any, loc: Sequence[str | int], asked: Mapping[str, Any], path: tuple[str, ...] = ()
) -> tuple[str | int, ...]:
    """The keys below `node` that gave the field `loc` of a TrialSpec, where the parameters had the values `asked`."""
    if forms := branches(node):
        taken = asked[parameter_name(path)]
        rest = loc[1:] if isinstance(node, OptimizerSpace) else loc
        return ("choice", taken, *_place(forms[taken], rest, asked, (*path, taken)))
    if isinstance(node, FloatRange | IntRange | Options):
        return next(keys for keys, value in _extremes(node) if value == asked[parameter_name(path)])
    if isinstance(node, Spec) and loc:
        key = str(loc[0])
        return (key, *_place(getattr(node, key, None), loc[1:], asked, (*path, key)))
    return ()


def _location(error: Any) -> tuple[str | int, ...]:
    return (*error["loc"], *error.get("ctx", {}).get("keys", ()))


def _words(form: type[Spec], error: Any) -> str:
    if error["type"] == "unknown_key":
        found = error["ctx"]
        return f"unknown key. {unknown.mend(form, found['keys'][0], found['value'], found['known'])}"
    return message(error)


def _line(where: str, tree: Any, sets: Sequence[_Set], loc: Sequence[str | int], message: str) -> str:
    """The message behind its place: a flag if one put the value there, else the line in the file."""
    keys = tuple(str(key) for key in loc if key not in TAGS)
    line, depth = _position(tree, keys)
    absent = depth < len(keys)
    if givers := [one for one in sets if one.gave(keys, absent)]:
        where = givers[-1].flag
        keys = keys if where == "--set" else keys[len(givers[-1].keys) :]  # the flag is a name of its own
    elif line:
        where = f"{where}:{line}"
    return one_line(f"{where}: {'.'.join(keys)}{': ' if keys else ''}{message}")


def _position(tree: Any, keys: Sequence[str]) -> tuple[int | None, int]:
    """The line of the deepest key of the path that stands in the file, and how many keys of the path do."""
    line = None
    for depth, key in enumerate(keys):
        position: Any = getattr(tree, "lc", None)
        try:
            found: Any = int(key) if isinstance(tree, list) else next(k for k in tree if str(k) == key)
            line = position.data[found][0] + 1
            tree = tree[found]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, StopIteration):
            return line, depth
    return line, len(keys)
