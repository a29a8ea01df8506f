"""TrialSpec: one training, fully resolved. The same spec, data and worker count give the same model.

Every field that a search may vary is declared here once, with its range; `spec/space.py` derives the searchable form.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from raycnn.invocation import undecodable

Fraction = Annotated[float, Field(ge=0, le=1)]
DETERMINISTIC = "on a GPU too a trial is the same bit for bit, but slower; on a processor it always is"
SYNC = "GPUs only: batch norm over the batch of all workers of a trial, not over each one's share"
EXCHANGE = "what the workers of a trial exchange"
CLIP = "longest gradient, over all parameters; a longer one is shortened to it; 0: any length"
MODELS = (
    "fastnet",
    "airbench94",
    "resnet20",
    "resnet32",
    "resnet56",
    "resnet18",
    "resnet50",
    "preact18",
    "wrn-16-8",
    "wrn-40-2",
    "wrn-28-10",
)
OWN_MODEL = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"  # package.module:factory


def _known_or_own(name: str) -> str:
    if name not in MODELS and not re.fullmatch(OWN_MODEL, name):
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.4)
        mend = f"Did you mean {near[0]}?" if near else f"There are {', '.join(MODELS)}."
        raise PydanticCustomError(
            "model", 'must be a model or package.module:factory, got "{name}". {mend}', {"name": name, "mend": mend}
        )
    return name


Model = Annotated[
    str,
    AfterValidator(_known_or_own),
    WithJsonSchema({"anyOf": [{"enum": list(MODELS)}, {"type": "string", "pattern": OWN_MODEL}]}),
]


def _on_this_machine(path: Path) -> Path:
    place = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 Path's own raises for a user that is not there
    if undecodable(str(place)):  # by the folder that the command was given in
        shown = str(place).encode(errors="replace").decode()
        raise PydanticCustomError(
            "place", "{place} is not UTF-8, and a run could not name it. Rename it.", {"place": shown}
        )
    return place


Place = Annotated[Path, Field(strict=False), AfterValidator(_on_this_machine)]
"""A path on this machine, `~` and the current directory resolved: other processes have other ones."""


class Spec(BaseModel):
    """Immutable, no unknown keys, no silent conversion (4.0 is no int, "4" no number), finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    known = {"keys": (str(key),), "value": data[key], "known": list(cls.model_fields)}
                    raise PydanticCustomError("unknown_key", "unknown key", known)
        return data


class Cutout(Spec):
    """DeVries & Taylor 2017, arXiv:1708.04552: blank squares of `size_px`."""

    size_px: int = Field(ge=1, le=512, description="side of each square, pixels")
    holes: int = Field(default=1, ge=1, le=64, description="squares per image")
    fill: Literal["mean", "black"] = Field(
        default="mean", description="mean: cut out after normalisation, as in the paper; black: before"
    )


class Mixup(Spec):
    """Zhang et al. 2018, arXiv:1710.09412: convex combinations of images and labels."""

    alpha: float = Field(gt=0, le=100, description="both parameters of the Beta distribution of the mixing weight")


class Cutmix(Spec):
    """Yun et al. 2019, arXiv:1905.04899: a rectangle of each image is its partner's, labels mixed by the areas."""

    alpha: float = Field(default=1.0, gt=0, le=100, description="both parameters of the areas' Beta distribution")
    probability: float = Field(default=0.5, gt=0, le=1, description="share of the batches; the others: mixup, if on")


class Rotation(Spec):
    """Hendrycks et al. 2019, arXiv:1906.12340: a second head predicts the rotation of unmixed images."""

    weight: float = Field(gt=0, le=100, description="factor of the mean cross-entropy over the rotated images")
    views: int = Field(default=4, ge=1, le=4, description="4: all four rotations of each image; 1: one at random")


class Trivialaugment(Spec):
    """Müller & Hutter 2021, arXiv:2103.10158: one random operation for each image, none like a test corruption."""

    strength: float = Field(default=1.0, gt=0, le=1, description="share of the widest ranges that is drawn from")


class Augmix(Spec):
    """Hendrycks et al. 2020, arXiv:1912.02781: mixed chains of operations, and a loss that binds three views."""

    severity: float = Field(default=3.0, gt=0.1, le=10, description="strongest operation, of 10")
    jsd_weight: float = Field(
        default=12.0, ge=0, le=1000, description="factor of the Jensen-Shannon divergence, two more passes; 0: one view"
    )


class Regularizers(Spec):
    """Off unless given, but for crop and flip, which are part of every published recipe, and of the baseline's too."""

    cutout: Cutout | None = None
    mixup: Mixup | None = None
    cutmix: Cutmix | None = None
    rotation: Rotation | None = None
    trivialaugment: Trivialaugment | None = None
    augmix: Augmix | None = None
    crop_px: int = Field(default=4, ge=0, le=64, description="padding of the random crop, pixels; 0: no crop")
    crop_padding: Literal["zero", "reflect"] = Field(default="zero", description="what a crop sees beyond the border")
    flip: bool = Field(default=True, description="mirror half of the images")
    alternating_flip: bool = Field(
        default=False, description="each epoch mirrors those that the one before did not (airbench); needs flip"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema_decay: float = Field(
        default=0.0, ge=0, lt=1, description="per step, of the moving average of weights that is evaluated; 0: none"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="within the blocks of preact18 and the wrn; 0: none")
    stochastic_depth: float = Field(
        default=0.0, ge=0, lt=1, description="how often a residual network's last block is skipped; 0: never"
    )
    sam_rho: float = Field(
        default=0.0, ge=0, le=10, description="radius of sharpness-aware minimisation, a second pass; 0: none"
    )

    @property
    def passes(self) -> int:
        """Images that the network sees for each image of a batch: the cost of a step."""
        count = 3 if self.augmix and self.augmix.jsd_weight else 1
        if self.rotation:
            # Of all four views, the upright one is the image itself, unless that was mixed or has views of its own.
            shared = self.rotation.views == 4 and not self.mixup and not self.cutmix and count == 1
            count += self.rotation.views - shared
        return count * (2 if self.sam_rho else 1)


class Sgd(Spec):
    """SGD with momentum."""

    lr: float = Field(gt=0, le=100, description="peak learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=10, description="spares norms and biases")
    nesterov: bool = True
    clip_norm: float = Field(default=0.0, ge=0, description=CLIP)


class Adamw(Spec):
    """AdamW, Loshchilov & Hutter 2019, arXiv:1711.05101."""

    lr: float = Field(gt=0, le=10, description="peak learning rate")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0, le=10, description="decoupled; spares norms and biases")
    clip_norm: float = Field(default=0.0, ge=0, description=CLIP)


class Muon(Spec):
    """Muon, Jordan et al. 2024, kellerjordan.github.io/posts/muon: momentum whose matrices are made orthogonal. Filters
    are taken as matrices (out, rest); all other parameters go to AdamW."""

    lr: float = Field(gt=0, le=10, description="peak learning rate of the filters")
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.1, ge=0, le=10, description="decoupled; spares norms and biases")
    adamw_lr: float = Field(default=3e-3, gt=0, le=10, description="peak learning rate of heads, norms and biases")
    clip_norm: float = Field(default=0.0, ge=0, description=CLIP)


class Optimizer(Spec):
    """Exactly one of them is set."""

    sgd: Sgd | None = None
    adamw: Adamw | None = None
    muon: Muon | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(one is not None for one in (self.sgd, self.adamw, self.muon)) != 1:
            raise PydanticCustomError(
                "optimizer", "needs exactly one optimizer. Write sgd: {…}, adamw: {…} or muon: {…}."
            )
        return self

    @property
    def chosen(self) -> Sgd | Adamw | Muon:
        """The one that is set."""
        chosen = self.sgd or self.adamw or self.muon
        assert chosen is not None
        return chosen


class Schedule(Spec):
    """Linear warm-up to the peak, then down over the trial's full budget, stepped every batch: half a cosine to zero,
    a line to zero (onecycle), by `factor` at each milestone (step), or not at all (constant)."""

    name: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    warmup: Fraction = Field(default=0.1, description="share of all steps spent warming up")
    milestones: list[Fraction] = Field(default=[0.5, 0.75], description="step: shares of all steps")
    factor: float = Field(default=0.1, gt=0, le=1, description="step: of the learning rate at each milestone")


class TrialSpec(Spec):
    """One training. `precision: auto` is bf16 autocast where the hardware has it (detected), else fp32."""

    model: Model
    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=2, le=1_000_000, description="images per step over all workers")
    regularizers: Regularizers = Regularizers()
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    seed: int = Field(default=0, ge=0, lt=2**63, description="fixes initial weights, order and augmentation")
    train_on: Literal["train", "all"] = Field(default="train", description="all: validation images are trained on too")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    deterministic: bool = Field(default=False, description=DETERMINISTIC)
    sync_batchnorm: bool = Field(default=False, description=SYNC)
    gradient_precision: Literal["fp32", "bf16"] = Field(default="fp32", description=EXCHANGE)

    @model_validator(mode="after")
    def _network_has_what_is_dropped(self) -> Self:
        kind = "" if ":" in self.model else self.model.partition("-")[0].rstrip("0123456789")
        for name, kinds in (("dropout", ("preact", "wrn")), ("stochastic_depth", ("resnet", "preact", "wrn"))):
            if getattr(self.regularizers, name) and kind not in kinds:
                raise PydanticCustomError(
                    "network", "regularizers.{name}: {model} has none. Write 0.", {"name": name, "model": self.model}
                )
        return self
