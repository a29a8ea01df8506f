"""What a space asks for, and the training that its answers make."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raycnn.spec.reading import search_from_text, trial_spec
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import (
    AdamwSpace,
    CutoutSpace,
    FloatRange,
    IntRange,
    MixupSpace,
    Options,
    Parameter,
    RegularizersSpace,
    RotationSpace,
    ScheduleSpace,
    SgdSpace,
    parameters,
    resolve,
)
from raycnn.spec.trial import (
    Adamw,
    Cutout,
    Mixup,
    Optimizer,
    Regularizers,
    Rotation,
    Schedule,
    Sgd,
    Spec,
    TrialSpec,
)

BOTH = """\
name: both
data: {name: shapes}
model: fastnet
budget: {epochs: 3, batch_size: 64}
space:
  regularizers:
    cutout:
      choice:
        off: {}
        on: {size_px: {type: int, low: 2, high: 20}}
        many: {size_px: 4, holes: {choice: [4, 9]}}
    mixup: {alpha: {type: float, low: 0.1, high: 1.0}}
    rotation: off
    flip: {choice: [true, false]}
  optimizer:
    choice:
      sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}
      adamw: {lr: 0.001}
"""


def answered(spec: SearchSpec, answers: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The resolved space where the answers are given, and the names that were asked, in order."""
    asked: list[str] = []

    def suggest(name: str, parameter: Parameter) -> Any:
        asked.append(name)
        return answers[name]

    return resolve(spec.space, suggest), asked


def test_parameters_are_named_by_what_they_vary_with_the_branches_that_lead_there():
    spec = search_from_text(BOTH, "a.yaml")
    assert [(named.name, named.condition) for named in parameters(spec.space)] == [
        ("cutout", ()),
        ("cutout.size_px", (("cutout", "on"),)),
        ("cutout.many.holes", (("cutout", "many"),)),
        ("mixup.alpha", ()),
        ("flip", ()),
        ("optimizer", ()),
        ("optimizer.sgd.lr", (("optimizer", "sgd"),)),
    ]
    by_name = {named.name: named for named in parameters(spec.space)}
    assert by_name["cutout"].parameter == Options[str](choice=["off", "on", "many"])
    assert by_name["cutout.many.holes"].keys == ("regularizers", "cutout", "choice", "many", "holes")
    assert by_name["optimizer.sgd.lr"].keys == ("optimizer", "choice", "sgd", "lr")


def test_only_the_branch_that_is_taken_is_asked():
    spec = search_from_text(BOTH, "a.yaml")
    answers = {"cutout": "off", "mixup.alpha": 0.5, "flip": False, "optimizer": "adamw"}
    values, asked = answered(spec, answers)
    assert asked == list(answers)
    trial = trial_spec(spec, values, seed=7)
    assert trial == TrialSpec(
        model="fastnet",
        epochs=3,
        batch_size=64,
        regularizers=Regularizers(mixup=Mixup(alpha=0.5), flip=False),
        optimizer=Optimizer(adamw=Adamw(lr=0.001)),
        seed=7,
    )


def test_a_branch_brings_its_constants():
    spec = search_from_text(BOTH, "a.yaml")
    answers = {
        "cutout": "many",
        "cutout.many.holes": 9,
        "mixup.alpha": 0.5,
        "flip": True,
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.3,
    }
    values, asked = answered(spec, answers)
    assert asked == list(answers)
    trial = trial_spec(spec, values, seed=0)
    assert trial.regularizers.cutout == Cutout(size_px=4, holes=9)
    assert trial.optimizer == Optimizer(sgd=Sgd(lr=0.3))


def test_changes_replace_fields_of_the_trial():
    spec = search_from_text(BOTH, "a.yaml")
    answers = {"cutout": "off", "mixup.alpha": 0.5, "flip": False, "optimizer": "adamw"}
    trial = trial_spec(spec, answered(spec, answers)[0], seed=0, epochs=30, train_on="all")
    assert (trial.epochs, trial.train_on) == (30, "all")


def test_each_searchable_form_has_the_names_and_defaults_of_the_spec_that_it_makes():
    twins: list[tuple[type[Spec], type[Spec]]] = [
        (CutoutSpace, Cutout),
        (MixupSpace, Mixup),
        (RotationSpace, Rotation),
        (RegularizersSpace, Regularizers),
        (SgdSpace, Sgd),
        (AdamwSpace, Adamw),
        (ScheduleSpace, Schedule),
    ]
    for form, made in twins:
        assert list(form.model_fields) == list(made.model_fields)
        for name, field in form.model_fields.items():
            default = None if field.default == "off" else field.default
            assert (default, field.is_required()) == (
                made.model_fields[name].default,
                made.model_fields[name].is_required(),
            )


# Limits of each value, from the specs' definitions: (type, low, high).
LIMITS: dict[str, dict[str, tuple[type, float, float]]] = {
    "cutout": {"size_px": (int, 1, 512), "holes": (int, 1, 64)},
    "mixup": {"alpha": (float, 0.001, 100)},
    "rotation": {"weight": (float, 0.001, 100), "views": (int, 1, 4)},
    "sgd": {"lr": (float, 1e-6, 100), "momentum": (float, 0, 0.999), "weight_decay": (float, 0, 10)},
    "adamw": {
        "lr": (float, 1e-6, 10),
        "beta1": (float, 0, 0.999),
        "beta2": (float, 0, 0.999),
        "weight_decay": (float, 0, 10),
    },
}


def values(kind: type, low: float, high: float) -> st.SearchStrategy[Any]:
    """A constant, a range or a choice within the limits."""
    one = st.integers(int(low), int(high)) if kind is int else st.floats(low, high, allow_subnormal=False)
    ends = st.lists(one, min_size=2, max_size=2, unique=True).map(sorted)
    ranges = st.builds(
        lambda ends, log: {"type": kind.__name__, "low": ends[0], "high": ends[1], "log": log and ends[0] > 0},
        ends,
        st.booleans(),
    )
    return one | ranges | st.lists(one, min_size=1, max_size=3, unique=True).map(lambda choice: {"choice": choice})


def forms(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """The values of a regularizer or optimizer, each given in one of its three ways."""
    return st.fixed_dictionaries({key: values(*limits) for key, limits in LIMITS[name].items()})


def regularizer(name: str) -> st.SearchStrategy[Any]:
    branches = st.dictionaries(st.sampled_from(["on", "weak", "regularizers"]), forms(name), min_size=1)
    return (
        st.just("off")
        | forms(name)
        | st.builds(lambda form, off: {"choice": ({"off": {}} if off else {}) | form}, branches, st.booleans())
    )


OPTIMIZERS = (
    st.builds(lambda form: {"sgd": form}, forms("sgd"))
    | st.builds(lambda form: {"adamw": form}, forms("adamw"))
    | st.builds(lambda sgd, adamw: {"choice": {"sgd": sgd, "adamw": adamw}}, forms("sgd"), forms("adamw"))
)
SPACES = st.fixed_dictionaries(
    {
        "regularizers": st.fixed_dictionaries({name: regularizer(name) for name in ("cutout", "mixup", "rotation")}),
        "optimizer": OPTIMIZERS,
        "schedule": st.fixed_dictionaries({"warmup": values(float, 0, 1)}),
    }
)


def draw(parameter: Parameter, generator: random.Random) -> Any:
    if isinstance(parameter, Options):
        return generator.choice(parameter.choice)
    if isinstance(parameter, IntRange):
        return generator.randint(parameter.low, parameter.high)
    assert isinstance(parameter, FloatRange)
    return min(parameter.high, max(parameter.low, generator.uniform(parameter.low, parameter.high)))


@given(SPACES, st.randoms(use_true_random=False))
def test_any_answer_to_any_space_is_a_training_that_survives_json(space: dict[str, Any], generator: random.Random):
    whole = {"name": "any", "data": {"name": "shapes"}, "model": "fastnet", "budget": {"epochs": 1, "batch_size": 2}}
    spec = SearchSpec.model_validate(whole | {"space": space})
    answers: dict[str, Any] = {}

    def suggest(name: str, parameter: Parameter) -> Any:
        assert name not in answers, "one name stands for two parameters"
        answers[name] = draw(parameter, generator)
        return answers[name]

    trial = trial_spec(spec, resolve(spec.space, suggest), seed=generator.randrange(2**63))

    assert TrialSpec.model_validate_json(trial.model_dump_json()) == trial
    reachable = [
        named.name
        for named in parameters(spec.space)
        if all(answers.get(parent) == branch for parent, branch in named.condition)
    ]
    assert reachable == list(answers)
