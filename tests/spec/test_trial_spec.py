"""TrialSpec: what one training may be."""

import pytest
from pydantic import ValidationError

from raycnn.spec.trial import (
    MODELS,
    Adamw,
    Cutout,
    Mixup,
    Optimizer,
    Regularizers,
    Rotation,
    Schedule,
    Sgd,
    TrialSpec,
)

FULL = TrialSpec(
    model="resnet18",
    epochs=30,
    batch_size=512,
    regularizers=Regularizers(
        cutout=Cutout(size_px=8, holes=2),
        mixup=Mixup(alpha=0.2),
        rotation=Rotation(weight=0.5, views=1),
        label_smoothing=0.1,
    ),
    optimizer=Optimizer(sgd=Sgd(lr=0.1)),
    schedule=Schedule(warmup=0.25),
    seed=2**63 - 1,
    train_on="all",
    precision="bf16",
    compile=True,
)


@pytest.mark.parametrize(
    "spec", [FULL, TrialSpec(model="fastnet", epochs=1, batch_size=2, optimizer=Optimizer(adamw=Adamw(lr=1e-3)))]
)
def test_json_gives_the_same_training_back(spec: TrialSpec):
    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_training_is_immutable():
    with pytest.raises(ValidationError):
        FULL.epochs = 3


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"epochs": 0}, ("epochs",)),
        ({"epochs": 3.0}, ("epochs",)),
        ({"epochs": "3"}, ("epochs",)),
        ({"batch_size": 1}, ("batch_size",)),
        ({"seed": 2**63}, ("seed",)),
        ({"model": "vgg"}, ("model",)),
        ({"schedule": {"warmup": 1.1}}, ("schedule", "warmup")),
        ({"regularizers": {"mixup": {"alpha": 0.0}}}, ("regularizers", "mixup", "alpha")),
        ({"regularizers": {"cutout": {"size_px": 0}}}, ("regularizers", "cutout", "size_px")),
        ({"regularizers": {"rotation": {"weight": 1.0, "views": 5}}}, ("regularizers", "rotation", "views")),
        ({"regularizers": {"label_smoothing": 1.0}}, ("regularizers", "label_smoothing")),
        ({"optimizer": {"sgd": {"lr": float("nan")}}}, ("optimizer", "sgd", "lr")),
        ({"optimizer": {}}, ("optimizer",)),
        ({"optimizer": {"sgd": {"lr": 0.1}, "adamw": {"lr": 0.1}}}, ("optimizer",)),
        ({"epoch": 3}, ()),
    ],
)
def test_what_no_training_can_be_is_refused_at_its_field(change: dict, at: tuple[str, ...]):
    with pytest.raises(ValidationError) as caught:
        TrialSpec.model_validate(FULL.model_dump() | change)
    assert caught.value.errors()[0]["loc"] == at


def test_the_baseline_has_crop_and_flip_and_no_searched_regularizer():
    plain = Regularizers()
    assert (plain.cutout, plain.mixup, plain.rotation) == (None, None, None)
    assert (plain.crop_px, plain.flip, plain.label_smoothing) == (4, True, 0.0)


@pytest.mark.parametrize("model", [*MODELS, "my.networks:resnet"])
def test_dropout_and_stochastic_depth_are_refused_where_the_network_has_none(model: str):
    preactivated = model.startswith(("preact", "wrn"))
    for wish, there in (("dropout", preactivated), ("stochastic_depth", preactivated or model.startswith("resnet"))):
        optimizer = Optimizer(sgd=Sgd(lr=0.1))
        fields = {"model": model, "epochs": 1, "batch_size": 2, "optimizer": optimizer, "regularizers": {wish: 0.5}}
        if there:
            TrialSpec.model_validate(fields)
        else:
            with pytest.raises(ValidationError, match=f"regularizers.{wish}: {model} has none. Write 0."):
                TrialSpec.model_validate(fields)
