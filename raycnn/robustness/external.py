"""Networks that were not trained here, ready to be scored: a factory in Python, its weights from a file.

`[NAME=]MODEL[@WEIGHTS]`: MODEL is `package.module:factory`, a callable without arguments that gives a torch Module from
(batch, 3, height, width) floats in [0, 1], normalised by --mean and --std where those are given, to logits; or the path
of a checkpoint that raycnn wrote. Models of one NAME are seeds of one model.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raycnn.data.dataset import ImageSet
from raycnn.data.sources import load
from raycnn.digest import read_json, write_json
from raycnn.errors import CheckpointError, SpecError
from raycnn.models import imported
from raycnn.robustness.imagenet_c import open_imagenet_c
from raycnn.robustness.results import Key, Results
from raycnn.robustness.units import Unit, score_all, units
from raycnn.spec.recipe import Request
from raycnn.training.checkpoint import load_classifier

MODELS = "models.json"
_SEED = 0  # of generated corruptions and of attacks
_IMAGENET_PX = 224
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")
"""Under which checkpoints of other programs keep the weights."""
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, and of torch.compile


@dataclass(frozen=True, slots=True)
class Source:
    """One `[NAME=]MODEL[@WEIGHTS]`."""

    key: Key
    model: str
    weights: Path | None

    def facts(self) -> dict[str, Any]:
        """For models.json: what tells this network from others of its name."""
        path = self.weights or (Path(self.model) if Path(self.model).is_file() else None)
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path else None
        return {"model": self.model, "weights": str(self.weights) if self.weights else None, "sha256": digest}


def sources(wishes: Sequence[str]) -> list[Source]:
    """What the command line names. Raises SpecError for what cannot be meant."""
    found: list[Source] = []
    for wish in wishes:
        name, equals, rest = wish.partition("=")
        model, _, weights = (rest if equals else wish).partition("@")
        if not model or (equals and not name):
            raise SpecError(f"--model {wish}: must be MODEL, MODEL@WEIGHTS or NAME=MODEL@WEIGHTS. Write it so.")
        if ":" not in model and not Path(model).is_file():
            raise SpecError(
                f"--model {wish}: {model} is neither a checkpoint file nor package.module:factory. Give one of them."
            )
        if weights and not Path(weights).is_file():
            raise SpecError(f"--model {wish}: {weights} is no file. Give the path of the weights.")
        name = name if equals else Path(model).stem if ":" not in model else model.partition(":")[2]
        seed = sum(one.key[0] == name for one in found)
        found.append(Source((name, seed), model, Path(weights) if weights else None))
    return found


def keep_sources(run: Path, found: Sequence[Source]) -> None:
    """Write models.json. Raises SpecError where the run holds scores of another network under one of the names."""
    path = run / MODELS
    before = read_json(path, "Remove it, and its scores with it, or give another --run.")
    now = {f"{source.key[0]}/{source.key[1]}": source.facts() for source in found}
    for name, facts in now.items():
        if name in before and {**before[name], "weights": None} != {**facts, "weights": None}:
            raise SpecError(f"{run}: holds scores of another network called {name}. Give it a name, or another --run.")
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, before | now)


def score_models(
    found: Sequence[Source],
    request: Request,
    root: Path | None,
    run: Path,
    pictures_alone: bool,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Score the networks into run/robustness.parquet and run/outcomes; what is there is not scored again.

    pictures_alone: on ImageNet-C at request.scoring.imagenet_c and on nothing else, without a data set.
    Raises what loading of data and models does.
    """
    if pictures_alone:
        archive = open_imagenet_c(request.scoring.imagenet_c or Path())
        side_px, classes = (
            request.data.image_px if request.data.name == "folder" else _IMAGENET_PX,
            len(archive.classes),
        )
        how = {"side_px": side_px, "precision": request.scoring.precision}
        todo = [Unit("imagenet-c", file.name, file.n, (file.name,), file, **how) for file in archive.files]
        test = ImageSet(np.zeros((0, side_px, side_px, 3), np.uint8), np.zeros(0, np.int64))
    else:
        data = load(request.data, root)
        side_px, classes = data.train.images.shape[1], len(data.class_names)
        todo = units(request.scoring, request.data, root, data, _SEED)
        test = data.open_test()
    models = load_models(found, request.mean, request.std, classes, side_px)
    keep_sources(run, found)
    score_all(models, todo, test, Results(run), device, say)


def load_models(
    found: Sequence[Source], mean: Sequence[float] | None, std: Sequence[float] | None, classes: int, image_px: int
) -> dict[Key, nn.Module]:
    """The networks, in eval mode. mean, std: of each channel, as fractions of 1, for those that are not raycnn's.

    Raises SpecError where a factory cannot be had or what it gives is no classifier of so many classes of such images,
    CheckpointError for weights that are not its own.
    """
    models: dict[Key, nn.Module] = {}
    for source in found:
        if ":" in source.model:
            network = _made(source.model)
            if source.weights:
                _load_weights(network, source.weights)
            models[source.key] = Normalised(network, mean, std).eval()
        else:
            models[source.key] = load_classifier(Path(source.model))
        _try(models[source.key], source.model, classes, image_px)
    return models


class Normalised(nn.Module):
    """A network of normalised images as one of images as they are stored."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean or (0.0, 0.0, 0.0)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or (1.0, 1.0, 1.0)).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width), uint8 or float in [0, 1] -> (batch, classes)."""
        unit = images if images.is_floating_point() else images.float() / 255
        return self.network((unit - self.mean) / self.std)


def _made(model: str) -> nn.Module:
    factory = imported(model, f"--model {model}")
    try:
        made: Any = factory()
    except Exception as error:  # somebody's own code
        raise SpecError(
            f"--model {model}: its call without arguments fails ({_first_line(error)}). Mend it."
        ) from error
    if not isinstance(made, nn.Module):
        raise SpecError(f"--model {model}: gave a {type(made).__name__}. It must give a torch Module.")
    return made


def _load_weights(network: nn.Module, path: Path) -> None:
    """Changes `network`. Nothing is unpickled but tensors and plain containers."""
    try:
        content: Any = (
            _safetensors(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(
            f"{path}: cannot be read as weights alone ({_first_line(error)}). Save a state_dict, and give that."
        ) from error
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no state_dict, nor one under {', '.join(_STATE_KEYS)}. Save one.")
    weights = {_plain(name): value for name, value in content.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: are not this network's weights ({words}). Give its own.") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _try(model: nn.Module, name: str, classes: int, image_px: int) -> None:
    try:
        with torch.inference_mode():
            got = tuple(model(torch.zeros(2, 3, image_px, image_px, dtype=torch.uint8)).shape)
    except Exception as error:  # somebody's own code
        raise SpecError(f"--model {name}: fails on images of {image_px} px ({_first_line(error)}). Mend it.") from error
    if got != (2, classes):
        raise SpecError(f"--model {name}: gives 2 images logits {got}, and the data have {classes} classes.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
