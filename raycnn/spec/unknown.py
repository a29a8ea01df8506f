"""A key that does not exist: where in the file that stands which was meant."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args, get_origin

from raycnn.spec.ranges import FloatRange, IntRange, Options
from raycnn.spec.space import Branches
from raycnn.spec.trial import Spec
from raycnn.spec.wording import either

_SLIP, _ELSEWHERE, _ALIKE = 0.8, 0.85, 0.5  # how alike two names are: a slip of the finger, the same, not unlike
_MOST = 3  # places that are named
_NO_FORMS = (FloatRange, IntRange, Options, Branches)


def mend(form: type[Spec], key: str, value: Any, known: Sequence[str]) -> str:
    """For an unknown `key` with `value`, in a file of `form`, where `known` are the keys at its place."""
    places: dict[str, list[str]] = {}
    for name, place in _places(form, ()):
        places.setdefault(name, []).append(place)

    def elsewhere(name: str) -> list[str]:
        return [place for near in _near(name, places, _ELSEWHERE) for place in places[near]]

    if near := _near(key, known, _SLIP):
        return f"Did you mean {near[0]}?"
    if found := elsewhere(key):
        return f"Did you mean {either(found[:_MOST])}?"
    near = _near(key, known, _ALIKE)
    below = [place for name in value for place in elsewhere(str(name))[:1]] if isinstance(value, dict) else []
    if below and not any(name in place.split(".") for name in near for place in below):
        return f"Did you mean {' and '.join(below[:_MOST])}?"
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(known)}."


def _near(name: str, known: Iterable[str], least: float) -> list[str]:
    """The nearest one, if any is near."""
    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=least)


def _places(form: type[Spec], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every key below `form` with its path; of a choice, the keys of what is chosen from."""
    for name, field in form.model_fields.items():
        if name != "choice":
            yield name, ".".join((*path, name))
            for below in _forms(field.annotation):
                yield from _places(below, (*path, name))


def _forms(annotation: Any) -> Iterator[type[Spec]]:
    """The mappings that a field may hold, but for ranges and choices, and for members of a list, which have no path."""
    if get_origin(annotation) in (list, tuple):
        return
    if parts := get_args(annotation):
        for part in parts:
            yield from _forms(part)
    elif isinstance(annotation, type) and issubclass(annotation, Spec) and not issubclass(annotation, _NO_FORMS):
        yield annotation
