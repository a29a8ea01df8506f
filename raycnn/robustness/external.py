"""Networks that were not trained here, ready to be scored: a factory in Python, its weights from a file.

`[NAME=]MODEL[@WEIGHTS]`: MODEL is `package.module:factory`, a callable without arguments that gives a torch Module from
(batch, 3, height, width) floats in [0, 1], normalised by --mean and --std where those are given, to logits; or the path
of a checkpoint that raycnn wrote. Models of one NAME are seeds of one model.
"""

import hashlib
import re
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
from raycnn.errors import SpecError, one_line
from raycnn.models import imported
from raycnn.robustness.attacks import input_gradient
from raycnn.robustness.evaluate import default_batch_size, on_device
from raycnn.robustness.foreign_weights import Which, load_weights
from raycnn.robustness.imagenet_c import open_imagenet_c
from raycnn.robustness.results import Key, Results
from raycnn.robustness.units import Unit, score_all, units
from raycnn.spec.recipe import Request
from raycnn.training.checkpoint import CPU, load_classifier
from raycnn.training.memory import ByMemory
from raycnn.training.precision import exact_fp32

MODELS = "models.json"
_SEED = 0  # of generated corruptions and of attacks
_IMAGENET_PX = 224
_SUM = 1e-3  # how far from 1 the probabilities of an image may add up
_NAME = re.compile(r"([^:@/\\=]+)=(.*)", re.DOTALL)
_LIKE_GUESSING = 0.97  # of the error of guessing


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
        named = None if Path(wish).is_file() else _NAME.fullmatch(wish)  # "=" may also stand in a path
        name, rest = named.groups() if named else ("", wish)
        model, _, weights = (rest, "", "") if Path(rest).is_file() else rest.partition("@")
        if not model or wish.startswith("="):
            raise SpecError(f"--model {wish}: must be MODEL, MODEL@WEIGHTS or NAME=MODEL@WEIGHTS. Write it so.")
        if ":" not in model and not Path(model).is_file():
            raise SpecError(
                f"--model {wish}: {model} is neither a checkpoint file nor package.module:factory. Give one of them."
            )
        if weights and not Path(weights).is_file():
            raise SpecError(f"--model {wish}: {weights} is no file. Give the path of the weights.")
        name = name or (Path(model).stem if ":" not in model else model.partition(":")[2])
        name = name.encode(errors="backslashreplace").decode()  # that of a file need not be UTF-8
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
    which: Which | None = None,
    probabilities: bool = False,
) -> None:
    """Score the networks into run/robustness.parquet and run/outcomes; what is there is not scored again.

    which: of weights, where a file holds several. probabilities: the logarithm is taken of what networks give that
    give such. pictures_alone: on ImageNet-C at request.scoring.imagenet_c and on nothing else, without a data set.
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
        for line in data.notes():
            say(line)
        side_px, classes = data.train.images.shape[1], len(data.class_names)
        todo = units(request.scoring, request.data, root, data, _SEED)
        test = data.open_test()
    attacked = any(unit.epsilons for unit in todo)
    wish = Wish(request.mean, request.std, which, probabilities)
    models = load_models(found, wish, classes, side_px, device, attacked, say)
    keep_sources(run, found)
    results = Results(run)
    score_all(models, todo, test, results, device, say)
    for row in results.rows:
        guessing = 1 - 1 / classes
        if row.set == "clean" and row.key in models and (row.error or 0) > _LIKE_GUESSING * guessing:
            say(
                f"warning: {row.model} errs on {100 * (row.error or 0):.1f} % of the clean images, as guessing does "
                f"({100 * guessing:.1f} %): see its normalisation (--set 'mean=[R, G, B]', std) and the order of its "
                "classes"
            )


@dataclass(frozen=True, slots=True)
class Wish:
    """How foreign networks are taken. mean, std: of each channel, as fractions of 1. Else as in `score_models`."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    which: Which | None = None
    probabilities: bool = False


def load_models(
    found: Sequence[Source],
    wish: Wish,
    classes: int,
    image_px: int,
    device: torch.device = CPU,
    attacked: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[Key, nn.Module]:
    """The networks, in eval mode, on the device. attacked: gradients are needed of their inputs.

    Raises SpecError where a factory cannot be had or what it gives is no classifier of so many classes of such images,
    CheckpointError for weights that are not its own.
    """
    models: dict[Key, nn.Module] = {}
    for source in found:
        if ":" in source.model:
            network = _made(source.model)
            if source.weights and (taken := load_weights(network, source.weights, wish.which)):
                say(taken)
            models[source.key] = Normalised(network, wish.mean, wish.std).eval()
        else:
            models[source.key] = load_classifier(Path(source.model))
        _try(models[source.key], source.model, classes, image_px, device, attacked, wish.probabilities)
    return models


class Normalised(nn.Module):
    """A network of normalised images as one of images as they are stored, which gives logits alone.

    Its images are contiguous, as those of most training programs: a network may flatten them with `view`.
    """

    mean: Tensor
    std: Tensor
    probabilities = False
    """Whether the network gives these, whose logarithms are then its logits."""

    def __init__(self, network: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean or (0.0, 0.0, 0.0)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or (1.0, 1.0, 1.0)).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width), uint8 or float in [0, 1] -> (batch, classes)."""
        unit = images if images.is_floating_point() else images.float() / 255
        found = _logits(self.network(((unit - self.mean) / self.std).contiguous()))
        return found.clamp_min(torch.finfo(found.dtype).tiny).log() if self.probabilities else found


def _logits(output: Any) -> Tensor:
    """Of what a network gives: itself, the first of several, or what is called so. Raises SpecError."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = output.get("logits", output.get("out"))
    elif isinstance(found := getattr(output, "logits", None), Tensor):
        output = found
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise SpecError(f"gives a {type(output).__name__}, and a tensor of logits is needed. Mend it.")
    return output


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


def _try(
    model: nn.Module, name: str, classes: int, image_px: int, device: torch.device, attacked: bool, log: bool
) -> None:
    """Changes `model`, as scoring does, which it foretells: with so many images, of that type and layout, there."""
    probe = np.random.default_rng(0).integers(0, 256, (default_batch_size(device), image_px, image_px, 3), np.uint8)
    images = on_device(probe, device)
    model.to(device).eval()
    try:
        with torch.inference_mode(), exact_fp32():
            found = torch.cat(ByMemory().parts(len(images), lambda first, last: model(images[first:last])))
        if attacked:
            input_gradient(model, images[:2].float() / 255, torch.zeros(2, dtype=torch.int64, device=device))
    except SpecError as error:
        raise SpecError(f"--model {name}: {error}") from error
    except Exception as error:  # somebody's own code
        raise SpecError(f"--model {name}: fails on images of {image_px} px ({_first_line(error)}). Mend it.") from error
    if (got := tuple(found.shape)) != (len(probe), classes):
        raise SpecError(f"--model {name}: gives {len(probe)} images logits {got}, and the data have {classes} classes.")
    if isinstance(model, Normalised) and bool((found >= 0).all()) and bool(((found.sum(1) - 1).abs() < _SUM).all()):
        if not log:
            raise SpecError(
                f"--model {name}: gives probabilities (none is negative, each row sums to 1). Loss, calibration and "
                "attacks need logits: take the softmax out, or add --probabilities, which takes logarithms."
            )
        model.probabilities = True


def _first_line(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0])[:200] or type(error).__name__
