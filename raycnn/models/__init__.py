"""The networks. Each has `width` and `features(images) -> (batch, width)`; `classifier.Classifier` adds the heads."""

from typing import TYPE_CHECKING

from raycnn.errors import SpecError
from raycnn.models.names import NAMES

if TYPE_CHECKING:
    from raycnn.models.classifier import Network

__all__ = ["NAMES", "build"]


def build(name: str, image_px: int) -> "Network":
    """The network `name` for square images of `image_px`, freshly initialised from torch's random state.

    Raises SpecError for an unknown name and for images too small. Torch is imported here and not above, so that a spec
    can be checked against NAMES in no time.
    """
    if name == "fastnet":
        from raycnn.models.fastnet import FastNet

        return FastNet(image_px)
    if name in ("resnet20", "resnet18"):
        from raycnn.models import resnet

        return resnet.resnet20() if name == "resnet20" else resnet.resnet18()
    raise SpecError(f"model: {name!r} is not known. Choose one of {', '.join(NAMES)}.")
