"""The `space` section: each value is a constant, a range or a choice; a choice's branches carry their own values.

The searchable forms mirror the specs of `spec/trial.py` name by name; the limits of a value stand there, and a range is
checked by putting both of its ends into a TrialSpec. Plain data: search/study.py asks Optuna.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from raycnn.spec.ranges import FloatRange, IntRange, Options
from raycnn.spec.trial import Spec

T = TypeVar("T")
Parameter = FloatRange | IntRange | Options[Any]
Scalar = float | int | str | bool


class Empty(Spec):
    """`{}`: the branch that switches a regularizer off."""


def _form_tag(value: Any) -> str:
    return "@off" if value == {} or isinstance(value, Empty) else "@form"


class Branches(Spec, Generic[T]):
    """One of several named forms of a regularizer; `off: {}` switches it off."""

    choice: dict[
        str,
        Annotated[Annotated[T, Tag("@form")] | Annotated[Empty, Tag("@off")], Discriminator(_form_tag)],
    ]

    @model_validator(mode="after")
    def _only_off_is_empty(self) -> Self:
        if not self.choice:
            raise PydanticCustomError(
                "branches", "needs at least one branch. Write on: {…} with its values.", {"keys": ("choice",)}
            )
        for name, form in self.choice.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise PydanticCustomError(
                    "branches",
                    "a branch's name holds letters, digits, '_' and '-'. Rename it.",
                    {"keys": ("choice", name)},
                )
            if isinstance(form, Empty) != (name == "off"):
                mend = "Remove its values or rename it" if name == "off" else "Write its values, or call it off"
                raise PydanticCustomError(
                    "branches", "only the branch off is empty. {mend}.", {"mend": mend, "keys": ("choice", name)}
                )
        return self


def _value_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "@choice" if "choice" in value else "@range"
    return (
        "@choice"
        if isinstance(value, Options | Branches)
        else "@range"
        if isinstance(value, FloatRange | IntRange)
        else "@constant"
    )


def _switch_tag(value: Any) -> str:
    if isinstance(value, dict):
        return "@choice" if "choice" in value else "@form"
    return "@choice" if isinstance(value, Branches) else "@form" if isinstance(value, Spec) else "@off"


Real = Annotated[
    Annotated[float, Tag("@constant")]
    | Annotated[FloatRange, Tag("@range")]
    | Annotated[Options[float], Tag("@choice")],
    Discriminator(_value_tag),
]
Whole = Annotated[
    Annotated[int, Tag("@constant")] | Annotated[IntRange, Tag("@range")] | Annotated[Options[int], Tag("@choice")],
    Discriminator(_value_tag),
]
Flag = Annotated[
    Annotated[bool, Tag("@constant")] | Annotated[Options[bool], Tag("@choice")], Discriminator(_value_tag)
]
Padding = Annotated[
    Annotated[Literal["zero", "reflect"], Tag("@constant")] | Annotated[Options[str], Tag("@choice")],
    Discriminator(_value_tag),
]
Fill = Annotated[
    Annotated[Literal["mean", "black"], Tag("@constant")] | Annotated[Options[str], Tag("@choice")],
    Discriminator(_value_tag),
]
Off = Annotated[Literal["off"], Tag("@off")]
ByForm = Discriminator(_switch_tag)


class CutoutSpace(Spec):
    """Blank squares, DeVries & Taylor 2017."""

    size_px: Whole
    holes: Whole = 1
    fill: Fill = "mean"


class MixupSpace(Spec):
    """Mixed images and labels, Zhang et al. 2018."""

    alpha: Real


class CutmixSpace(Spec):
    """A rectangle of each image is another's, Yun et al. 2019."""

    alpha: Real = 1.0
    probability: Real = 0.5


class RotationSpace(Spec):
    """A second head that predicts rotations, Hendrycks et al. 2019."""

    weight: Real
    views: Whole = 4


class TrivialaugmentSpace(Spec):
    """One random operation for each image, Müller & Hutter 2021."""

    strength: Real = 1.0


class AugmixSpace(Spec):
    """Mixed chains of operations, Hendrycks et al. 2020."""

    severity: Real = 3.0
    jsd_weight: Real = 12.0


class RegularizersSpace(Spec):
    """Each is `off`, its values, or a choice of branches."""

    cutout: Annotated[
        Off | Annotated[CutoutSpace, Tag("@form")] | Annotated[Branches[CutoutSpace], Tag("@choice")], ByForm
    ] = "off"
    mixup: Annotated[
        Off | Annotated[MixupSpace, Tag("@form")] | Annotated[Branches[MixupSpace], Tag("@choice")], ByForm
    ] = "off"
    cutmix: Annotated[
        Off | Annotated[CutmixSpace, Tag("@form")] | Annotated[Branches[CutmixSpace], Tag("@choice")], ByForm
    ] = "off"
    rotation: Annotated[
        Off | Annotated[RotationSpace, Tag("@form")] | Annotated[Branches[RotationSpace], Tag("@choice")], ByForm
    ] = "off"
    trivialaugment: Annotated[
        Off | Annotated[TrivialaugmentSpace, Tag("@form")] | Annotated[Branches[TrivialaugmentSpace], Tag("@choice")],
        ByForm,
    ] = "off"
    augmix: Annotated[
        Off | Annotated[AugmixSpace, Tag("@form")] | Annotated[Branches[AugmixSpace], Tag("@choice")], ByForm
    ] = "off"
    crop_px: Whole = 4
    crop_padding: Padding = "zero"
    flip: Flag = True
    alternating_flip: Flag = False
    label_smoothing: Real = 0.0
    ema_decay: Real = 0.0
    dropout: Real = 0.0
    stochastic_depth: Real = 0.0
    sam_rho: Real = 0.0


class SgdSpace(Spec):
    """SGD with momentum."""

    lr: Real
    momentum: Real = 0.9
    weight_decay: Real = 5e-4
    nesterov: Flag = True
    clip_norm: Real = 0.0


class AdamwSpace(Spec):
    """AdamW."""

    lr: Real
    beta1: Real = 0.9
    beta2: Real = 0.999
    weight_decay: Real = 0.05
    clip_norm: Real = 0.0


class MuonSpace(Spec):
    """Muon for filters, AdamW for all else."""

    lr: Real
    momentum: Real = 0.95
    nesterov: Flag = True
    weight_decay: Real = 0.1
    adamw_lr: Real = 3e-3
    clip_norm: Real = 0.0


class OptimizerBranches(Spec):
    """The optimizers to choose from."""

    sgd: SgdSpace | None = None
    adamw: AdamwSpace | None = None
    muon: MuonSpace | None = None


class OptimizerSpace(Spec):
    """One optimizer, or a choice of them."""

    sgd: SgdSpace | None = None
    adamw: AdamwSpace | None = None
    muon: MuonSpace | None = None
    choice: OptimizerBranches | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(form is not None for form in (self.sgd, self.adamw, self.muon, self.choice)) != 1:
            raise PydanticCustomError(
                "optimizer",
                "needs exactly one of sgd, adamw, muon and choice. For several write choice: {sgd: {…}, adamw: {…}}.",
            )
        if self.choice and all(form is None for _, form in self.choice):
            raise PydanticCustomError(
                "optimizer", "needs at least one optimizer. Write sgd: {lr: …}.", {"keys": ("choice",)}
            )
        return self


class ScheduleSpace(Spec):
    """Linear warm-up, then down over the trial's full budget."""

    name: Annotated[
        Annotated[Literal["cosine", "onecycle", "step", "constant"], Tag("@constant")]
        | Annotated[Options[str], Tag("@choice")],
        Discriminator(_value_tag),
    ] = "cosine"
    warmup: Real = 0.1
    milestones: list[float] = Field(default=[0.5, 0.75])
    factor: Real = 0.1


class Space(Spec):
    """What the search varies."""

    regularizers: RegularizersSpace = RegularizersSpace()
    optimizer: OptimizerSpace
    schedule: ScheduleSpace = ScheduleSpace()


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter with its name, its key path below `space`, and the (parameter, branch) pairs that lead to it."""

    name: str
    parameter: Parameter
    keys: tuple[str, ...]
    condition: tuple[tuple[str, str], ...]


def resolve(node: Any, suggest: Callable[[str, Parameter], Scalar], path: tuple[str, ...] = ()) -> Any:
    """The plain tree in which each parameter of `node` has the value that `suggest(name, parameter)` gives.

    Only the branch that was taken is asked for its own values.
    """
    if isinstance(node, FloatRange | IntRange | Options):
        return suggest(parameter_name(path), node)
    if (forms := branches(node)) is not None:
        taken = str(suggest(parameter_name(path), Options[str](choice=list(forms))))
        value = resolve(forms[taken], suggest, (*path, taken))
        return {taken: value} if isinstance(node, OptimizerSpace) else value
    if isinstance(node, Empty) or node == "off":
        return None
    if isinstance(node, Spec):
        return {key: resolve(value, suggest, (*path, key)) for key, value in node if value is not None}
    return node


def active(space: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of some parameters' values, those of the branches that were taken."""
    return {
        named.name: values[named.name]
        for named in parameters(space)
        if named.name in values and all(str(values.get(parent)) == branch for parent, branch in named.condition)
    }


def grid(node: Any) -> Iterator[dict[str, Scalar]]:
    """Every combination of the values of parameters that have finitely many; of each branch, its own parameters."""
    asked: dict[str, Scalar] = {}
    while True:
        open_ones: list[tuple[str, list[Scalar]]] = []

        def suggest(name: str, parameter: Parameter, open_ones=open_ones, asked=asked) -> Scalar:
            values = grid_values(parameter)
            open_ones.append((name, values))
            return asked.setdefault(name, values[0])

        resolve(node, suggest)
        taken = dict(open_ones)
        yield {name: asked[name] for name in taken}
        # As on an odometer: the last one that can still advance does, and what came after it begins again.
        while open_ones:
            name, values = open_ones.pop()
            place = values.index(asked[name]) + 1
            if place < len(values):
                asked[name] = values[place]
                asked = {key: value for key, value in asked.items() if key in {n for n, _ in open_ones} | {name}}
                break
        else:
            return


def grid_values(parameter: Parameter) -> list[Scalar]:
    """All values of a parameter. Raises ValueError for a range without steps."""
    if isinstance(parameter, Options):
        return list(parameter.choice)
    step = parameter.step or 0
    return [parameter.low + index * step for index in range(count_values(parameter))]


def count_values(parameter: IntRange | FloatRange) -> int:
    """Of a range. Raises ValueError where it has no steps."""
    if isinstance(parameter, IntRange):
        return (parameter.high - parameter.low) // parameter.step + 1
    if not parameter.step:
        raise ValueError("a range without steps has endlessly many values")
    return math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1


def point_of(node: Any, tree: Any, path: tuple[str, ...] = ()) -> dict[str, Scalar]:
    """The reverse of `resolve`: the values of the parameters of `node` with which it gives the plain tree.

    Raises ValueError where no values do: it names the place, what is wanted and what the space has.
    """
    name = parameter_name(path)
    if isinstance(node, FloatRange | IntRange):
        if not isinstance(tree, int | float) or not node.low <= tree <= node.high:
            raise ValueError(f"{name} is {tree}, and the space goes from {node.low:g} to {node.high:g}")
        return {name: tree}
    if isinstance(node, Options):
        if tree not in node.choice:
            raise ValueError(f"{name} is {tree}, and the space has {', '.join(map(str, node.choice))}")
        return {name: tree}
    if (forms := branches(node)) is not None:
        reasons = []
        for branch, form in forms.items():
            below = tree.get(branch) if isinstance(node, OptimizerSpace) and isinstance(tree, dict) else tree
            if isinstance(node, OptimizerSpace) and below is None:
                continue
            try:
                return {name: branch} | point_of(form, below, (*path, branch))
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError(reasons[-1] if reasons else f"{name} is none of {', '.join(forms)}")
    if isinstance(node, Empty) or node == "off":
        if tree is not None:
            raise ValueError(f"{name} is on, and the space has it off")
        return {}
    if isinstance(node, Spec):
        if not isinstance(tree, dict):
            raise ValueError(f"{name} is off, and the space has it on")
        found: dict[str, Scalar] = {}
        for key, value in node:
            if value is not None:
                found |= point_of(value, tree.get(key), (*path, key))
        return found
    if tree != node:
        raise ValueError(f"{name} is {tree}, and the space has {node}")
    return {}


def parameters(node: Any) -> list[Named]:
    """Every parameter below `node`, of all branches, parents first."""
    return list(_parameters(node, (), (), ()))


def _parameters(
    node: Any, path: tuple[str, ...], keys: tuple[str, ...], condition: tuple[tuple[str, str], ...]
) -> Iterator[Named]:
    name = parameter_name(path)
    if isinstance(node, FloatRange | IntRange | Options):
        yield Named(name, node, keys, condition)
    elif (forms := branches(node)) is not None:
        yield Named(name, Options[str](choice=list(forms)), keys, condition)
        for branch, form in forms.items():
            yield from _parameters(form, (*path, branch), (*keys, "choice", branch), (*condition, (name, branch)))
    elif isinstance(node, Spec):
        for key, value in node:
            yield from _parameters(value, (*path, key), (*keys, key), condition)


def parameter_name(path: tuple[str, ...]) -> str:
    """`("regularizers", "cutout", "on", "size_px")` is `cutout.size_px`: words that say nothing are left out."""
    below = path[1:] if path[:1] == ("regularizers",) else path
    return ".".join(part for part in below if part != "on")


def branches(node: Any) -> dict[str, Any] | None:
    """The branches of a choice by name; None for what is no choice of branches."""
    if isinstance(node, Branches):
        return dict(node.choice)
    if isinstance(node, OptimizerSpace) and node.choice:
        return {name: form for name, form in node.choice if form is not None}
    return None
