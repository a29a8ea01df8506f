"""Scoring: on which sets trained models are measured."""

from typing import Annotated, Literal

from pydantic import Field

from raycnn.spec.trial import Place, Spec

Score = Literal["cifar10-c", "cifar10-p", "cifar100-c", "imagenet-c", "generated-c", "fgsm", "pgd"]
Epsilon = Annotated[float, Field(ge=0, le=1)]


class Scoring(Spec):
    """The sets beside the clean test images, and where they are."""

    score: list[Score] = Field(default=["cifar10-c", "cifar10-p", "fgsm"], description="beside the clean test images")
    cifar10_c: Place | None = Field(default=None, description="default: CIFAR-10-C in the data directory")
    cifar10_p: Place | None = Field(default=None, description="default: CIFAR-10-P in the data directory")
    cifar100_c: Place | None = Field(default=None, description="default: CIFAR-100-C in the data directory")
    imagenet_c: Place | None = Field(
        default=None, description="default: ImageNet-C in the data directory; for data of kind folder"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of errors on images; auto: bf16 where it is fast. Flips and attacks are fp32"
    )
    generated: list[str] | None = Field(
        default=None, description="corruptions of generated-c; default: the 15 test corruptions"
    )
    batch_norm_adapted: bool = Field(
        default=False,
        description="cifar10-c or cifar100-c once more, with batch norm's statistics of the test images; kept apart",
    )
    epsilons: list[Epsilon] = Field(
        default=[0.0, 0.01, 0.02, 8 / 255, 0.05, 0.1], min_length=1, description="of fgsm and pgd, fractions of 1"
    )
    pgd_steps: int = Field(default=10, ge=1, le=1000)
    pgd_images: int = Field(default=1000, ge=1, le=10_000_000, description="first test images, those that pgd attacks")
