"""The networks. Each has `width` and `features(images) -> (batch, width)`; `classifier.Classifier` adds the heads.

A user's own is `package.module:factory`, where factory(image_px) gives such a network.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raycnn.errors import SpecError
from raycnn.spec.trial import MODELS

if TYPE_CHECKING:
    from raycnn.models.classifier import Network

__all__ = ["NAMES", "build", "imported"]

NAMES = MODELS


def build(name: str, image_px: int, dropout: float = 0.0, stochastic_depth: float = 0.0) -> "Network":
    """The network `name` for square images of `image_px`, freshly initialised from torch's random state.

    dropout, stochastic_depth: of networks that have it, as TrialSpec knows. Raises SpecError for an unknown name, for
    images too small, and for an own network that cannot be had. Torch is imported here and not above, so that a spec
    can be checked against NAMES in no time.
    """
    from raycnn.models import airbench, fastnet, preact, resnet

    match name:
        case "fastnet":
            return fastnet.FastNet(image_px)
        case "airbench94":
            return airbench.Airbench(image_px)
        case "resnet20" | "resnet32" | "resnet56":
            return resnet.cifar_resnet(int(name.removeprefix("resnet")), stochastic_depth)
        case "resnet18":
            return resnet.resnet18(stochastic_depth)
        case "resnet50":
            if image_px < 64:
                raise SpecError(f"model: resnet50 needs images of at least 64 px, got {image_px}. Set data.image_px.")
            return resnet.resnet50(stochastic_depth)
        case "preact18":
            return preact.preact18(dropout, stochastic_depth)
        case "wrn-16-8" | "wrn-40-2" | "wrn-28-10":
            depth, widening = map(int, name.split("-")[1:])
            return preact.wide_resnet(depth, widening, dropout, stochastic_depth)
    if ":" in name:
        return _own(name, image_px)
    raise SpecError(f"model: {name!r} is not known. Choose one of {', '.join(NAMES)}, or package.module:factory.")


def imported(name: str, where: str) -> Any:
    """What `package.module:attribute` names. where: begins the message of the SpecError if there is no such thing."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        mend = "Start in the folder that holds it, or install it."
        raise SpecError(f"{where} cannot be imported ({error}). {mend}") from error


def _own(name: str, image_px: int) -> "Network":
    import torch

    network: Any = imported(name, f"model: {name}")(image_px)
    if not (isinstance(network, torch.nn.Module) and hasattr(network, "width") and hasattr(network, "features")):
        raise SpecError(
            f"model: {name} gave a {type(network).__name__}. It must give a Module with width and features."
        )
    made: Any = network
    with torch.no_grad():
        got = tuple(made.eval().features(torch.zeros(2, 3, image_px, image_px)).shape)
    made.train()
    if got != (2, made.width):
        raise SpecError(f"model: {name} gives 2 images features {got}, and its width says (2, {made.width}).")
    return made
