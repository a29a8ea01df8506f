"""Recipe: one training and what was published of it. Request: what a network is scored on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring
from raycnn.spec.trial import Fraction, Spec, TrialSpec

Metric = Literal["clean/error", "cifar-10-c/mce15", "cifar-10-p/mfp10", "cifar-100-c/mce15", "fgsm/error"]
"""Keys of `robustness.summary`: those of numbers that are the same number wherever they are published. What `pgd/error`
and `generated-c/mce15` are depends on steps and on random numbers."""


class Setting(Spec):
    """What was trained, and on which images."""

    data: DataSpec
    training: TrialSpec


class Published(Spec):
    """A figure of a paper: a fraction of 1, its standard deviation over trainings if it is given, and its place.

    It names the setting that it was measured in, and stands beside numbers of that setting alone, for what is trained
    may be changed, by --set or in a copy of the file. Seeds and precision are no part of it; official images are.
    """

    metric: Metric
    value: Fraction
    deviation: Fraction | None = Field(default=None, description="standard deviation over trainings")
    trainings: int | None = Field(default=None, ge=1, description="how many were averaged")
    source: str = Field(min_length=1, description="paper and table")
    of: Setting | None = Field(
        default=None, description="what it was measured with: `data` and `training` as above; without, not compared"
    )


class Recipe(Spec):
    """One training, on what it is scored, and the published figures that it is compared with."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run")
    data: DataSpec
    training: TrialSpec
    scoring: Scoring = Scoring(score=[])
    published: list[Published] = Field(default=[], description="what the recipe's authors report")


class Request(Spec):
    """What networks that were trained elsewhere are scored on."""

    data: DataSpec
    scoring: Scoring = Scoring()
    mean: list[float] | None = Field(default=None, min_length=3, max_length=3, description="of channels, of 1")
    std: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None, min_length=3, max_length=3, description="of channels, of 1"
    )

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and max(values) > 1:
                of_one = ", ".join(f"{value / 255:.4f}" for value in values)
                raise PydanticCustomError(
                    "of_one",
                    "is of values of 255, and images come as fractions of 1. Write [{of_one}].",
                    {"of_one": of_one, "keys": (name,)},
                )
        return self
