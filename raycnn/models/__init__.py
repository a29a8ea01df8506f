"""The networks. Each has `width` and `features(images) -> (batch, width)`; `classifier.Classifier` adds the heads."""

from typing import TYPE_CHECKING, get_args

from raycnn.errors import SpecError
from raycnn.spec.trial import Model

if TYPE_CHECKING:
    from raycnn.models.classifier import Network

__all__ = ["NAMES", "build"]

NAMES: tuple[str, ...] = get_args(Model)


def build(name: str, image_px: int) -> "Network":
    """The network `name` for square images of `image_px`, freshly initialised from torch's random state.

    Raises SpecError for an unknown name and for images too small. Torch is imported here and not above, so that a spec
    can be checked against NAMES in no time.
    """
    from raycnn.models import airbench, fastnet, preact, resnet

    match name:
        case "fastnet":
            return fastnet.FastNet(image_px)
        case "airbench94":
            return airbench.Airbench(image_px)
        case "resnet20" | "resnet32" | "resnet56":
            return resnet.cifar_resnet(int(name.removeprefix("resnet")))
        case "resnet18":
            return resnet.resnet18()
        case "preact18":
            return preact.preact18()
        case "wrn-16-8" | "wrn-40-2" | "wrn-28-10":
            depth, widening = map(int, name.split("-")[1:])
            return preact.wide_resnet(depth, widening)
    raise SpecError(f"model: {name!r} is not known. Choose one of {', '.join(NAMES)}.")
