"""SearchSpec: the YAML file of a search, validated. `spec/reading.py` makes it and says what is wrong with a file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from raycnn.spec.data import DataSpec
from raycnn.spec.scoring import Scoring
from raycnn.spec.space import Space
from raycnn.spec.trial import DETERMINISTIC, EXCHANGE, SYNC, Model, Optimizer, Spec

Objective = Literal["val/clean_error", "val/corruption_error", "val/clean_loss", "cost/images", "cost/seconds"]
Sampler = Literal["tpe", "gp", "nsgaii", "nsgaiii", "cmaes", "qmc", "grid", "random"]
Scheduler = Literal["asha", "hyperband", "median", "none"]
Auto = Annotated[Literal["auto"], Tag("@word")]
ByWord = Discriminator(lambda value: "@word" if isinstance(value, str) else "@value")


class Budget(Spec):
    """What one training may use; the learning rate schedule follows it."""

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=2, le=1_000_000, description="images per step over all workers of a trial")


class Search(Spec):
    """How the space is searched. All objectives are minimised."""

    trials: int = Field(default=64, ge=1, le=1_000_000, description="finished trials wished, the baseline among them")
    sampler: Sampler = Field(default="tpe", description="docs/search.md says which serves which space")
    scheduler: Scheduler = Field(default="asha", description="which trials are stopped early; by all objectives")
    grace_epochs: int | None = Field(
        default=None, ge=1, le=100_000, description="no trial is stopped before; default: a ninth of the epochs"
    )
    reduction_factor: int = Field(default=3, ge=2, le=1000, description="one in so many goes on from rung to rung")
    objectives: list[Objective] = Field(default=["val/clean_error", "val/corruption_error"], min_length=1)
    corruption_images: int = Field(
        default=1000, ge=1, le=1_000_000, description="held-out images that are corrupted, 4 x 5 ways each"
    )
    startup_trials: int = Field(
        default=10, ge=1, le=1_000_000, description="random trials before tpe, gp or cmaes begin"
    )
    random_fraction: float = Field(
        default=0.25, ge=0, le=1, description="of tpe's trials: drawn at random, so that it does not settle too early"
    )
    population: int = Field(default=24, ge=2, le=100_000, description="of nsgaii and nsgaiii: trials of a generation")
    constraints: list[str] = Field(
        default=[], description="between parameters, as cutout.size_px * cutout.holes <= 32; others are not trained"
    )
    repeats: int = Field(
        default=1, ge=1, le=100, description="trainings of each setting that is not stopped early; objectives are means"
    )
    start: list[Path] = Field(
        default=[], strict=False, description="recipe files whose settings are tried first, after the baseline"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        for index, objective in enumerate(self.objectives):
            if objective in self.objectives[:index]:
                raise PydanticCustomError(
                    "objectives",
                    "{objective} is there already. Remove it.",
                    {"objective": objective, "keys": ("objectives", index)},
                )
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise PydanticCustomError(
                "sampler", "cmaes knows one objective only. Take tpe, gp or nsgaii.", {"keys": ("sampler",)}
            )
        if all(objective.startswith("cost/") for objective in self.objectives):
            raise PydanticCustomError("objectives", "are costs alone. Add val/clean_error.", {"keys": ("objectives",)})
        return self


class Trainer(Spec):
    """The workers of one trial, and how a slot looks after it. `auto` follows the cluster."""

    workers: int = Field(default=1, ge=1, le=4096, description="processes that train one trial together")
    cpus_per_worker: Annotated[Annotated[float, Field(gt=0, le=10_000), Tag("@value")] | Auto, ByWord] = "auto"
    gpus_per_worker: Annotated[Annotated[float, Field(ge=0, le=1), Tag("@value")] | Auto, ByWord] = Field(
        default="auto", description="a worker drives one GPU; a fraction shares it among trials of one worker"
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="most trials at once; default: as many as fit. In a cluster that does not say how far it grows, so "
        "many are waited for where cpus_per_worker and gpus_per_worker are numbers",
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = Field(default=False, description="torch.compile: helps on GPUs, not on CPUs")
    deterministic: bool = Field(default=False, description=DETERMINISTIC)
    sync_batchnorm: bool = Field(default=False, description=SYNC)
    gradient_precision: Literal["fp32", "bf16"] = Field(default="fp32", description=EXCHANGE)
    checkpoint_s: float = Field(
        default=10.0, ge=0, le=1e6, description="least seconds between two checkpoints of a trial"
    )
    hang_s: float = Field(default=600.0, gt=0, le=1e6, description="a trial without progress for so many seconds fails")
    retries: int = Field(default=3, ge=0, le=1000, description="how often a trial survives the death of its workers")
    recycle_after: int | None = Field(
        default=None, ge=1, le=1_000_000, description="fresh workers after so many trials"
    )

    @model_validator(mode="after")
    def _whole_gpus_for_groups(self) -> Self:
        share = self.gpus_per_worker
        if self.workers > 1 and share != "auto" and 0 < share < 1:
            raise PydanticCustomError(
                "gpus",
                "NCCL refuses two workers of a trial on one GPU, got {share} with workers={workers}. "
                "Write 1, or workers: 1.",
                {"share": share, "workers": self.workers, "keys": ("gpus_per_worker",)},
            )
        return self


class Finals(Scoring):
    """Which trials are retrained on all training images, how often, and on what they are scored."""

    top: int = Field(default=3, ge=1, le=1000, description="finalists from the front; the baseline is added")
    choice: Literal["best", "spread"] = Field(
        default="best", description="the knee of the front, then: the best of each objective, or all along the front"
    )
    seeds: int = Field(default=3, ge=1, le=1000, description="trainings of each")
    epochs: int | None = Field(default=None, ge=1, le=100_000, description="default: those of the budget")


class SearchSpec(Spec):
    """One search: data, model, budget, space, how it is searched, trained and finished."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run")
    data: DataSpec
    model: Model
    budget: Budget
    space: Space
    search: Search = Search()
    trainer: Trainer = Trainer()
    finals: Annotated[Annotated[Finals, Tag("@value")] | Annotated[Literal["off"], Tag("@word")], ByWord] = Finals()
    tracking: list[Literal["mlflow", "wandb"]] = Field(
        default=[], description="trackers that are told of each trial; set up by their own environment variables"
    )
    baseline: Optimizer | None = Field(default=None, description="the untuned optimizer; default: the published SGD")
