"""The factorial at the optimum: cutout, mixup and rotation prediction, each on and off, around the first finalist.

All else is the finalist's. Each cell is retrained in full on all training images over several seeds, on the slots, and
scored as finals are, in run/ablation, which is a run directory of its own. What a regularizer adds, alone and beside
the others, are the effects of that 2 x 2 x 2 experiment (Box, Hunter & Hunter 2005, Statistics for Experimenters).
"""

import contextlib
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from raycnn import models
from raycnn.data.sealing import sealed
from raycnn.errors import RaycnnError, SpecError
from raycnn.files import replacing
from raycnn.models.trust import remember
from raycnn.reporting.words import counted
from raycnn.robustness.results import read_outcomes
from raycnn.robustness.statistics import Comparison, contrast, corrected
from raycnn.robustness.summary import Measure, measures
from raycnn.run_files import read_spec, write_spec
from raycnn.search.finals import Final, train_finals, write_finalists
from raycnn.search.front import finalists
from raycnn.search.journal import read_trials
from raycnn.search.observer import Observer
from raycnn.search.rundir import circumstances, finish_manifest, held, write_manifest
from raycnn.search.seeds import derived_seed
from raycnn.search.trainable import trial_name
from raycnn.spec.search import Finals, SearchSpec
from raycnn.spec.trial import TrialSpec

FACTORS = ("cutout", "mixup", "rotation")
NONE = "none"
FOLDER = "ablation"


@dataclass(frozen=True, slots=True)
class Design:
    """The finalist, its factors with the strength that each has where it is on, and whose strength that is."""

    finalist: str
    spec: TrialSpec
    strengths: Mapping[str, Any]
    whose: Mapping[str, str]

    def cells(self) -> list[tuple[str, ...]]:
        """The factors that are on, for each cell; none first."""
        names = list(self.strengths)
        return [chosen for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)]

    def cell_spec(self, on: Sequence[str]) -> TrialSpec:
        values: dict[str, Any] = {name: self.strengths[name] if name in on else None for name in self.strengths}
        return self.spec.model_copy(update={"regularizers": self.spec.regularizers.model_copy(update=values)})


def cell_name(on: Sequence[str]) -> str:
    """ "cutout+mixup"; "none" where all are off."""
    return "+".join(on) or NONE


def design(trials: list[FrozenTrial]) -> Design:
    """Around the first finalist. A factor that it does without has the strength of the best trial that has it.

    Raises SpecError where no trial has run to its end, or none of the factors was ever on.
    """
    order = finalists(trials, len(trials))
    if not order:
        raise SpecError("no trial of the search has run to its end, so there is no optimum to look at. Search first.")
    specs = {trial_name(t.number): TrialSpec.model_validate_json(t.user_attrs["spec"]) for t in order}
    first = next(iter(specs))
    strengths, whose = {}, {}
    for factor in FACTORS:
        found = next((name for name, spec in specs.items() if getattr(spec.regularizers, factor)), None)
        if found:
            strengths[factor], whose[factor] = getattr(specs[found].regularizers, factor), found
    if not strengths:
        raise SpecError(
            f"none of {', '.join(FACTORS)} was on in a trial that ran to its end. There is nothing to ablate."
        )
    return Design(first, specs[first], strengths, whose)


def plan(design: Design, spec: SearchSpec, run: Path, seeds: int, epochs: int) -> list[Final]:
    """All cells, seed after seed; the same seeds for all cells."""
    planned = []
    for index in range(seeds):
        seed = derived_seed(spec.search.seed, f"ablation {index}")
        for on in design.cells():
            wish = {"seed": seed, "epochs": epochs, "train_on": "all"}
            resolved = TrialSpec.model_validate(json.loads(design.cell_spec(on).model_dump_json()) | wish)
            planned.append(Final(cell_name(on), seed, resolved, run / "finals" / cell_name(on) / f"seed-{index}"))
    return planned


def ablate(run: Path, data: str | None, address: str | None, seeds: int, observer: Observer) -> Path:
    """Train and score what is not done yet; returns run/ablation. data: directory or URI, as `data_root` has it.

    Raises SpecError, DataError, ClusterError.
    """
    from raycnn.search import cluster
    from raycnn.search.images import data_root

    spec = read_spec(run)
    found = design(read_trials(run))
    folder = run / FOLDER
    with held(folder):
        shutil.copyfile(run / "spec.yaml", folder / "spec.yaml")
        cluster.prepare_environment(folder / "raycnn.log")
        models.check(found.spec.model, spec.data.side_px)
        remember(folder, found.spec.model)
        wished = spec.finals if isinstance(spec.finals, Finals) else Finals(score=["generated-c"])
        if spec.finals == "off":
            write_spec(folder, spec.model_copy(update={"finals": wished}))
        root = data_root(run, spec, data)
        planned = plan(found, spec, folder, seeds, wished.epochs or spec.budget.epochs)
        observer.phase("starting workers")
        connected = cluster.connect(address)
        try:
            _train(planned, spec, folder, root, found, observer, connected.ours)
            write_finalists(folder, planned)
            from raycnn.search.scoring_job import score_as_job

            observer.phase("scoring")
            score_as_job(folder, connected, root, observer.message)
        finally:
            cluster.disconnect()
        finish_manifest(folder)
    return folder


def _train(
    planned: list[Final],
    spec: SearchSpec,
    folder: Path,
    root: Path | None,
    found: Design,
    observer: Observer,
    alone: bool,
) -> None:
    from raycnn.search.head_files import serve_head_files
    from raycnn.search.images import search_images
    from raycnn.search.resources import cluster_resources, slot_count, slot_shape
    from raycnn.search.worker import WORKLOAD
    from raycnn.slots.pool import SlotPool

    left = [final for final in planned if not final.done]
    if not left:
        return
    without_objective = spec.model_copy(
        update={"search": spec.search.model_copy(update={"objectives": ["val/clean_error"]})}
    )
    images = search_images(without_objective, root, folder)
    files = None if alone else serve_head_files(folder)
    resources = cluster_resources()
    shape = slot_shape(spec.trainer, resources)
    slots = min(slot_count(spec.trainer, shape, resources), len(left))
    with (
        sealed(images.sealed),
        ThreadPoolExecutor(len(planned), thread_name_prefix="final") as threads,
        SlotPool(WORKLOAD, shape, folder / "slots") as pool,
    ):
        pool.grow(slots)
        write_manifest(folder, {**circumstances(resources), "data": images.facts(), "slots": slots})
        pool.post(images.preparation(shape.cpus, files))
        epochs = counted(planned[0].spec.epochs, "epoch")
        observer.header(
            {
                "ablation": f"of {found.finalist}, {len(planned)} trainings of {epochs}",
                **{name: f"{_words(found.strengths[name])}, as in {found.whose[name]}" for name in found.strengths},
                "slots": f"{slots}, each {shape.workers} worker(s) with {shape.cpus:g} CPUs, {shape.gpus:g} GPUs",
                "run": str(folder),
            }
        )
        observer.phase("training")
        failures = train_finals(planned, spec, pool.hub, observer, threads)
    if failures:
        raise RaycnnError(f"ablation: {len(failures)} trainings failed, the first: {failures[0]}")


def effects(folder: Path) -> list[tuple[Measure, dict[str, Comparison]]]:
    """Main effects and interactions on each measure of run/ablation, p corrected for those of one measure.

    A main effect is the mean, over the settings of the other factors, of the value with the factor on minus off. An
    interaction of two is half the difference of one's effect with the other on and off; of three, likewise.
    Also written to effects.parquet.
    """
    found = []
    for measure in measures(read_outcomes(folder)):
        on = {name: () if name == NONE else tuple(name.split("+")) for name in measure.samples}
        factors = [factor for factor in FACTORS if any(factor in cell for cell in on.values())]
        if len(on) != 2 ** len(factors):
            continue  # not all cells are scored yet
        names, values = list(measure.samples), list(measure.samples.values())
        subsets = [s for size in range(1, len(factors) + 1) for s in itertools.combinations(factors, size)]
        raw = []
        for subset in subsets:
            signs = [(-1) ** sum(factor not in on[name] for factor in subset) for name in names]
            weights = [sign / 2 ** (len(factors) - 1) for sign in signs]
            raw.append(contrast(values, weights, measure.statistic, measure.is_mean))
        words = [" x ".join(subset) for subset in subsets]
        found.append((measure, dict(zip(words, corrected(raw), strict=True))))
    rows = [
        {"measure": measure.key, "effect": name, "difference": one.difference, "low": one.low, "high": one.high}
        | {"p": one.p, "p_holm": one.holm, "seeds": one.seeds[0], "images": one.images}
        for measure, by_name in found
        for name, one in by_name.items()
    ]
    with contextlib.suppress(OSError), replacing(folder / "effects.parquet") as file:
        pd.DataFrame(rows).to_parquet(file)
    return found


def _words(strength: Any) -> str:
    values = {name: value for name, value in strength if value != type(strength).model_fields[name].default}
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
