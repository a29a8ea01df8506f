"""Recipe: one training and what was published of it."""

from typing import Literal

from pydantic import Field

from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring
from raycnn.spec.trial import Fraction, Spec, TrialSpec

Metric = Literal["clean/error", "cifar-10-c/error", "cifar-10-p/flip_probability", "generated-c/error", "fgsm/error"]


class Published(Spec):
    """A figure of a paper: a fraction of 1, its standard deviation over trainings if it is given, and its place."""

    metric: Metric
    value: Fraction
    deviation: Fraction | None = Field(default=None, description="standard deviation over trainings")
    trainings: int | None = Field(default=None, ge=1, description="how many were averaged")
    source: str = Field(min_length=1, description="paper and table")


class Recipe(Spec):
    """One training, on what it is scored, and the published figures that it is compared with."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run")
    data: DataSpec
    training: TrialSpec
    scoring: Scoring = Scoring(score=[])
    published: list[Published] = Field(default=[], description="what the recipe's authors report")
