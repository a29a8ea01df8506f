"""Weights from files that other programs wrote: read without running anything of theirs, found among what else lies in
the file, and fitted to a network's names."""

import argparse
import collections
import pathlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from raycnn.errors import CheckpointError

Which = Literal["raw", "ema"]
"""Of a file that holds both: the weights as they were trained, or their moving average."""

_PLACES: dict[Which, tuple[str, ...]] = {
    "raw": ("state_dict", "model_state_dict", "model", "net", "network", "weights"),
    "ema": ("state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "ema", "averaged"),
}
_WITHIN = ("state_dict", "module", "model", "shadow", "shadow_params")  # one level below those
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Of DataParallel and AveragedModel, of torch.compile, of Lightning's modules and others."""
_COUNTERS = ("num_batches_tracked", "n_averaged")  # these may be missing, or be there for nothing
_DEPTH = 4  # of wrappers
_SAVE = "Save weights alone: torch.save(network.state_dict(), 'weights.pt')"


class _Attributes(dict[str, Any]):
    """In the place of Lightning's dictionary with attributes."""


def _harmless() -> list[Any]:
    """What training programs put beside weights, and what torch may therefore make of a file: plain values, whose
    making runs nothing."""
    multiarray: Any = np.asarray(0).__reduce__()[0]  # of whichever module it lies in in this NumPy
    scalar: Any = np.float64(0).__reduce__()[0]
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((multiarray, "_reconstruct"), (scalar, "scalar"))
        for core in ("_core", "core")
    ]
    places = ("pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing")
    places += ("lightning_fabric.utilities.data", "lightning.fabric.utilities.data")
    return [
        *named,
        *((_Attributes, f"{place}.AttributeDict") for place in places),
        (pathlib.PurePosixPath, "pathlib.PosixPath"),
        (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
        (_latin_1, "_codecs.encode"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFD"},
        argparse.Namespace,
        collections.defaultdict,
        int,
        float,
        list,
        dict,
    ]


def _latin_1(text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as old pickles have them."""
    return text.encode("latin1")


def load_weights(network: nn.Module, path: Path, which: Which | None) -> str:
    """Load a file's weights into `network`; says which of several were taken, else nothing.

    which: None: those that were trained, where there are both. Raises CheckpointError.
    """
    content = _content(path)
    states = {kind: state for kind in _PLACES for state in _found(content, kind)}
    if not states:
        raise CheckpointError(f"{path}: holds no state_dict, nor one under {', '.join(_PLACES['raw'])}. {_SAVE}.")
    if which and which not in states:
        there = " and ".join(states)
        raise CheckpointError(f"{path}: holds no weights that --weights {which} could mean, only {there} ones.")
    kind = which or next(iter(states))
    place, weights = states[kind]
    try:
        network.load_state_dict(fitted(weights, network.state_dict()))
    except RuntimeError as error:
        words = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: are not this network's weights ({words}). Give its own.") from error
    others = [f"{name} (--weights {other})" for other, (name, _) in states.items() if other != kind]
    return f"{path}: {place} taken; there is also {others[0]}" if others else ""


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(f"{path}: cannot be read as weights alone ({_reason(error)}). {_SAVE}.") from error


def _reason(error: Exception) -> str:
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error))
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds {found[1]}, and making that would run code"
    return text.splitlines()[0][:200] if text else type(error).__name__


def _found(content: Any, kind: Which) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The first state of that kind, and where it lies."""
    if not isinstance(content, Mapping):
        return
    if kind == "raw" and _is_state(content):
        yield "the whole file", content
        return
    for name in _PLACES[kind]:
        inner: Any = content.get(name)
        within = [inner[key] for key in _WITHIN if isinstance(inner, Mapping) and key in inner]
        for state in (inner, *within):
            if _is_state(state):
                yield name, state
                return


def _is_state(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(one, Tensor) for one in content.values())


def fitted(weights: Mapping[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the network's own names: as they are if those fit, else without the wrappers before them.

    own: by the names that are wanted. Where nothing fits, the weights as they are.
    """
    for names in _unwrapped({name: name for name in own}, whole=True):  # the network may be the wrapped one
        for one in _unwrapped(dict(weights), whole=False):
            if {n for n in one if not n.endswith(_COUNTERS)} == {n for n in names if not n.endswith(_COUNTERS)}:
                return {names[name]: value for name, value in one.items() if name in names}
    return dict(weights)


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
    inner = {name.replace("._orig_mod.", "."): value for name, value in names.items()}
    if inner.keys() != names.keys():  # parts of it were compiled
        yield inner
