"""Scoring: on which sets trained models are measured."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from raycnn.spec.trial import Spec

Score = Literal["cifar10-c", "cifar10-p", "generated-c", "fgsm"]


class Scoring(Spec):
    """The sets beside the clean test images, and where they are."""

    score: list[Score] = Field(default=["cifar10-c", "cifar10-p", "fgsm"], description="beside the clean test images")
    cifar10_c: Path | None = Field(default=None, strict=False, description="default: CIFAR-10-C in the data directory")
    cifar10_p: Path | None = Field(default=None, strict=False, description="default: CIFAR-10-P in the data directory")
    generated: list[str] | None = Field(default=None, description="corruptions of generated-c; default: all there are")
