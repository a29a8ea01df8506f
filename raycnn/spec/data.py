"""DataSpec: which images, from where, and how many training images are held out for the search."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from raycnn.spec.trial import Place, Spec

_SIDE_PX = 32  # of CIFAR, and of shapes
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class DataSpec(Spec):
    """The `data` section. Images of `shapes` are generated; those of `folder` are resized to `image_px`."""

    name: Literal["cifar10", "cifar100", "folder", "shapes"]
    root: Place | None = Field(default=None, description="where the files are; --data wins; default ~/.cache/raycnn")
    validation: float = Field(
        default=0.1, gt=0, le=1e9, description="training images held out: a count, or a fraction below 1"
    )
    verify: bool = Field(
        default=True, description="false: unofficial copies of CIFAR are taken, and the report says so"
    )
    image_px: int = Field(default=32, ge=8, le=1024, description="side of the images of a folder, pixels")
    train_images: Count = Field(default=4000, description="size of the shapes training set")
    test_images: Count = Field(default=1000, description="size of the shapes test set")
    seed: int = Field(default=0, ge=0, lt=2**63, description="fixes the split and the shapes")

    @property
    def side_px(self) -> int:
        """Of the images that are trained on."""
        return self.image_px if self.name == "folder" else _SIDE_PX

    @model_validator(mode="before")
    @classmethod
    def _no_uri(cls, given: object) -> object:
        if isinstance(given, dict) and "://" in str(given.get("root", "")):
            raise PydanticCustomError(
                "root",
                "takes a directory, got {uri}. Give a URI with --data.",
                {"uri": given["root"], "keys": ("root",)},
            )
        return given

    @model_validator(mode="after")
    def _count_or_fraction(self) -> Self:
        if self.validation >= 1 and self.validation % 1:
            raise PydanticCustomError(
                "validation",
                "must be a whole number or a fraction below 1, got {validation}. Change it.",
                {"validation": self.validation, "keys": ("validation",)},
            )
        return self
