"""The networks. Each has `width` and `features(images) -> (batch, width)`; `classifier.Classifier` adds the heads.

A user's own is `package.module:factory`, where factory(image_px) gives such a network.
"""

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raycnn.errors import RaycnnError, SpecError
from raycnn.models.trust import trusted
from raycnn.spec.trial import MODELS

if TYPE_CHECKING:
    from raycnn.models.classifier import Network

__all__ = ["NAMES", "build", "check", "imported"]

NAMES = MODELS
LEAST_PX = {"resnet50": 64}
OWN_FORM = "factory(image_px) must give a torch Module with width, and features of (batch, 3, side, side)"


def build(name: str, image_px: int, dropout: float = 0.0, stochastic_depth: float = 0.0) -> "Network":
    """The network `name` for square images of `image_px`, freshly initialised from torch's random state.

    dropout, stochastic_depth: of networks that have it, as TrialSpec knows. Raises SpecError for an unknown name, for
    images too small, and for an own network that cannot be had; UntrustedModel for one that nobody here has asked for.
    Torch is imported here and not above, so that a spec
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
            _check_size(name, image_px)
            return resnet.resnet50(stochastic_depth)
        case "preact18":
            return preact.preact18(dropout, stochastic_depth)
        case "wrn-16-8" | "wrn-40-2" | "wrn-28-10":
            depth, widening = map(int, name.split("-")[1:])
            return preact.wide_resnet(depth, widening, dropout, stochastic_depth)
    if ":" in name:
        return _own(name, image_px)
    raise SpecError(f"model: {name!r} is not known. Choose one of {', '.join(NAMES)}, or package.module:factory.")


def check(name: str, image_px: int) -> None:
    """Raises what `build` would. Networks of raycnn's are not built, and torch is not imported for them."""
    if ":" in name:
        build(name, image_px)
    else:
        _check_size(name, image_px)


def _check_size(name: str, image_px: int) -> None:
    least = LEAST_PX.get(name, 0)
    if image_px < least:
        raise SpecError(f"model: {name} needs images of at least {least} px, got {image_px}. Set data.image_px.")


def imported(name: str, where: str) -> Any:
    """What `package.module:attribute` names, which is code that is run. where: begins the message of the SpecError if
    it cannot be had. Looked for in Python's own path first, then in the folder of what is trusted."""
    module, _, attribute = name.partition(":")
    folder = trusted().folder
    if folder and str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind all else: a folder's torch.py is not torch
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        mend = "Mend its imports, or install what it needs."
        if error.name and f"{module}.".startswith(f"{error.name}."):
            mend = "Start in the folder that holds it, which is no run directory, or install it."
        raise SpecError(f"{where} cannot be imported ({error}). {mend}") from error
    except (Exception, SystemExit) as error:  # somebody's own code
        raise SpecError(f"{where} cannot be imported ({cause(error)}). Mend the module.") from error
    try:
        return getattr(found, attribute)
    except AttributeError as error:
        raise SpecError(f"{where} cannot be imported ({error}). Name something that the module has.") from error


def cause(error: BaseException) -> str:
    """What somebody's own code raised, and in which of its lines: one line."""
    words = " ".join(str(error).split())[:200]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not Path(frame.filename).is_relative_to(Path(__file__).parents[1]) and "importlib" not in frame.filename
    ]
    place = f", {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{place}"


def _own(name: str, image_px: int) -> "Network":
    import torch

    trusted().refuse_other(name)
    where = f"model: {name}"
    factory = imported(name, where)
    try:
        network: Any = factory(image_px)
    except RaycnnError:  # ours: it looks for test images
        raise
    except (Exception, SystemExit) as error:  # somebody's own code
        raise SpecError(f"{where}({image_px}) fails ({cause(error)}). {OWN_FORM}.") from error
    if not (isinstance(network, torch.nn.Module) and hasattr(network, "width") and hasattr(network, "features")):
        raise SpecError(f"{where} gave a {type(network).__name__}. It must give a Module with width and features.")
    made: Any = network
    try:
        with torch.no_grad():
            features = made.eval().features(torch.zeros(2, 3, image_px, image_px))
        made.train()
        got = tuple(features.shape)
    except (Exception, SystemExit) as error:  # somebody's own code
        raise SpecError(f"{where}: features of 2 images of {image_px} px fail ({cause(error)}). {OWN_FORM}.") from error
    if got != (2, made.width):
        raise SpecError(f"{where} gives 2 images features {got}, and its width says (2, {made.width}).")
    return made
