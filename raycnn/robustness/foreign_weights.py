"""Weights from files that other programs wrote: read without running anything of theirs, found among what else lies in
the file, and fitted to a network's names."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from raycnn.errors import CheckpointError, one_line
from raycnn.files import MOST_TABLE_BYTES, read_file
from raycnn.training.pickled import Inert
from raycnn.training.torch_file import read_saved, take_weights

Which = Literal["raw", "ema"]
"""Of a file that holds both: the weights as they were trained, or their moving average."""

_PLACES: dict[Which, tuple[str, ...]] = {
    "raw": ("state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "state"),
    "ema": ("state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "ema", "averaged"),
}
_WITHIN = ("state_dict", "module", "model", "shadow", "shadow_params")  # one level below those
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Of DataParallel and AveragedModel, of torch.compile, of Lightning's modules and others."""
_WITHIN_NAMES = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Of parts that were compiled, sharded, or compute their activations again."""
_COUNTERS = ("num_batches_tracked", "n_averaged")  # these may be missing, or be there for nothing
_DEPTH = 4  # of wrappers
_SAVE = "Save weights alone: torch.save(network.state_dict(), 'weights.pt')"


def load_weights(network: nn.Module, path: Path, which: Which | None) -> str:
    """Load a file's weights into `network`; says which of several were taken and what was left out, else nothing.

    which: None: those that were trained, where there are both. Raises CheckpointError.
    """
    content = _content(path)
    states = {kind: state for kind in _PLACES for state in _found(content, kind)}
    if not states:
        if (odd := _inert(content)) is not None:
            raise _unreadable(path, f"it holds {one_line(odd.of, 300)}, and making that could run code")
        raise CheckpointError(f"{path}: holds no state_dict, nor one under {', '.join(_PLACES['raw'])}. {_SAVE}.")
    if which and which not in states:
        there = " and ".join(states)
        raise CheckpointError(f"{path}: holds no weights that --weights {which} could mean, only {there} ones.")
    kind = which or next(iter(states))
    place, state = states[kind]
    weights = _tensors(state)
    try:
        taken = fitted(weights, network.state_dict())
        take_weights(network, taken)
    except ValueError as error:
        raise CheckpointError(f"{path}: are not this network's weights ({error}). Give its own.") from error
    told = [
        f"{place} taken; there is also {name} (--weights {one})" for one, (name, _) in states.items() if one != kind
    ]
    held = {id(value) for value in taken.values()}
    if others := [str(name) for name, value in state.items() if id(value) not in held and not _is_counter(name)]:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        told.append(f"left out, as no part of this network: {one_line(', '.join(others[:3]), 300)}{more}")
    return f"{path}: {'; '.join(told)}" if told else ""


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return read_saved(read_file(path, MOST_TABLE_BYTES))
    except Exception as error:  # a damaged file can raise nearly anything
        raise _unreadable(path, one_line(str(error), 300) or type(error).__name__) from error


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read as weights alone ({reason}). {_SAVE}.")


def _inert(content: Any, depth: int = 3) -> Inert | None:
    """The first thing in it, or some levels below, that was not made."""
    if isinstance(content, Inert):
        return content
    below = content.values() if isinstance(content, Mapping) and depth else ()
    return next((found for one in below if (found := _inert(one, depth - 1)) is not None), None)


def _found(content: Any, kind: Which) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The first state of that kind, and where it lies."""
    if not isinstance(content, Mapping):
        return
    for name in _PLACES[kind]:
        inner: Any = content.get(name)
        within = [inner[key] for key in _WITHIN if isinstance(inner, Mapping) and key in inner]
        for state in (inner, *within):
            if _is_state(state):
                yield name, state
                return
    if kind == "raw" and _is_state(content):
        yield "the whole file", content


def _is_state(content: Any) -> bool:
    """Whether half of it or more are tensors by name; beside them may lie what some modules save of their own."""
    return isinstance(content, Mapping) and 2 * len(_tensors(content)) >= max(1, len(content))


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}


def fitted(weights: Mapping[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the network's own names: as they are if those fit, else without what stands before them, be it
    a known wrapper or the name of an attribute of somebody's own.

    own: by the names that are wanted. Where nothing fits, the weights as they are. Raises ValueError where several
    attributes fit, such as a student and a teacher.
    """
    for names in _unwrapped({name: name for name in own}, whole=True):  # the network may be the wrapped one
        wanted = _without_counters(names)
        for one in _unwrapped(dict(weights), whole=False):
            if _without_counters(one) == wanted:
                return {names[name]: value for name, value in one.items() if name in names}
    wanted = _without_counters(own)
    fits = {
        attribute: one
        for form in _unwrapped(dict(weights), whole=False)
        for attribute, part in _attributes(form)
        for one in _unwrapped(part, whole=False)
        if _without_counters(one) == wanted
    }
    if len(fits) > 1:
        raise ValueError(one_line(f"several of its parts fit: {', '.join(sorted(fits))}", 300))
    return {name: value for one in fits.values() for name, value in one.items() if name in own} or dict(weights)


def _without_counters(names: Mapping[str, Any]) -> set[str]:
    return {name for name in names if not _is_counter(name)}


def _is_counter(name: Any) -> bool:
    return str(name).endswith(_COUNTERS)


def _attributes(names: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The part of each attribute, under shorter names; and all parts side by side, where their names differ."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in names.items():
        attribute, _, inner = name.partition(".")
        parts.setdefault(attribute, {})[inner] = value
    yield from parts.items()
    together = {inner: value for part in parts.values() for inner, value in part.items()}
    if len(together) == len(names):
        yield " and ".join(parts), together


def _unwrapped(names: dict[str, Any], whole: bool) -> Iterator[dict[str, Any]]:
    """The same values under names without 0, 1, … wrappers, in any order. whole: all names must have one; else those
    that have none are left out: other parts of a training program."""
    forms = [names]
    for _ in range(_DEPTH + 1):
        yield from forms
        forms = [shorter for form in forms for shorter in _without_one(form, whole)]


def _without_one(names: dict[str, Any], whole: bool) -> Iterator[dict[str, Any]]:
    for wrapper in _WRAPPERS:
        shorter = {name.removeprefix(wrapper): value for name, value in names.items() if name.startswith(wrapper)}
        if shorter and not (whole and len(shorter) < len(names)):
            yield shorter
    inner = {_WITHIN_NAMES.sub("", name): value for name, value in names.items()}
    if inner.keys() != names.keys():
        yield inner
