"""What a search would stop for in its first minute: looked at by the search itself, and by `--dry-run` alone."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raycnn import models
from raycnn.errors import ClusterError, DiskError, RaycnnError, SpecError
from raycnn.files import free_bytes
from raycnn.reporting.words import byte_words
from raycnn.search.estimate import final_trainings
from raycnn.search.finalists import FINALISTS
from raycnn.search.journal import JOURNAL, read_trials
from raycnn.search.resources import Resources, slot_shape
from raycnn.search.rundir import same_images
from raycnn.search.study import Study, baseline_spec, earlier_trials, point_from
from raycnn.slots.pool import SlotShape
from raycnn.spec.search import Finals, SearchSpec
from raycnn.spec.trial import TrialSpec
from raycnn.temporary import temporary_folder

ASK_S = 2.0
"""For settings that a rehearsal asks for beyond the first two."""
T = TypeVar("T")


class Problems:
    """Errors that are told together."""

    def __init__(self) -> None:
        self._found: dict[str, RaycnnError] = {}  # each once

    def of(self, check: Callable[[], T]) -> T | None:
        """What `check` returns; None where it raises a RaycnnError, which is kept."""
        try:
            return check()
        except RaycnnError as error:
            self._found.setdefault(str(error), error)
            return None

    def refuse(self) -> None:
        """Raises what was found: of several errors, one with all their lines."""
        if len(self._found) == 1:
            raise next(iter(self._found.values()))
        if self._found:
            raise RaycnnError("\n".join(self._found))


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Of a study. finished: trials that the run has. finals_left: trainings of finals, all or none. settings: of those
    that would come next, some."""

    finished: int
    finals_left: int
    settings: tuple[TrialSpec, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """What is known before Ray and images are there; None: it is among the problems, or not known yet."""

    shape: SlotShape | None
    rehearsal: Rehearsal | None


def check_start(
    problems: Problems,
    spec: SearchSpec,
    before: Path,
    earlier: Sequence[Path],
    resources: Resources | None,
    here: bool,
    draws: int = 2,
) -> Start:
    """Changes `problems`: adds what stands against a start.

    before: the run directory, or a copy of what it has. resources: None: known when Ray is connected. here: they are
    this machine's, so its GPUs are tried. draws: settings to ask for.
    """
    problems.of(lambda: models.check(spec.model, spec.data.side_px))
    problems.of(lambda: _trackers(spec))
    shape = problems.of(lambda: _slots(spec, resources, here)) if resources else None
    if not (before / JOURNAL).exists():  # else it holds them already
        fit = [recipe for recipe in spec.search.start if _succeeds(problems, lambda of=recipe: point_from(of, spec))]
        earlier = [run for run in earlier if _succeeds(problems, lambda of=run: earlier_trials(of, spec))]
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"start": fit})})
    return Start(shape, problems.of(lambda: rehearse(spec, before, earlier, draws)))


def _succeeds(problems: Problems, check: Callable[[], object]) -> bool:
    return problems.of(check) is not None


def check_images(
    problems: Problems, spec: SearchSpec, run: Path, before: Path, images: int, classes: int, facts: dict[str, Any]
) -> None:
    """Changes `problems`: adds what stands against training on these images.

    before: as of `check_start`. images: that a trial is trained on. facts: for the manifest; empty where the images are
    not known one by one.
    """
    problems.of(lambda: _fits(spec, images))
    if not (before / "finals" / FINALISTS).exists():  # else all may be trained
        problems.of(lambda: require_room(run, _first_bytes(spec, classes), "the first checkpoint takes"))
    if facts:
        problems.of(lambda: same_images(before, facts))


def benchmarks(spec: SearchSpec, root: Path | None) -> list[Path]:
    """The directories that the finals are scored on. Raises DataError now for what the scoring would miss hours
    later."""
    from raycnn.robustness.units import benchmark_directories

    return list(benchmark_directories(spec.finals, spec.data, root).values()) if isinstance(spec.finals, Finals) else []


def rehearse(spec: SearchSpec, run: Path, earlier: Sequence[Path], draws: int = 2) -> Rehearsal:
    """Open the study of a run, or begin one, and ask it for settings, the baseline among them; all on a copy.

    Raises what the study would: for a damaged journal, for `start` and `--from` that do not fit, for constraints that
    hardly a setting keeps.
    """
    read_trials(run)
    with temporary_folder() as folder:
        if (run / JOURNAL).exists():
            shutil.copy(run / JOURNAL, folder / JOURNAL)
        study = Study(folder, spec, earlier)
        finished = len(study.finished())
        settings: list[TrialSpec] = []
        began = time.monotonic()
        while len(settings) < draws and (len(settings) < 2 or time.monotonic() - began < ASK_S):
            if (asked := study.ask()) is None:
                break
            settings.append(asked.spec)
        if study.exhausted and spec.search.constraints and finished + len(settings) == 1:
            raise SpecError("search.constraints: no point of the grid keeps them all. Widen the ranges, or relax one.")
    trained = finished >= spec.search.trials and (run / "finals" / FINALISTS).exists()
    return Rehearsal(finished, 0 if trained else final_trainings(spec), tuple(settings))


def require_room(run: Path, needed_bytes: int, purpose: str) -> None:
    """Raises DiskError where the disk of a run directory, made or not, has less free."""
    if (free := free_bytes(run)) < needed_bytes:
        raise DiskError(
            f"{run}: {purpose} {byte_words(needed_bytes)}, {byte_words(free)} are free. "
            "Free space there, or give another --run."
        )


def slots_that_fit(spec: SearchSpec, resources: Resources) -> SlotShape:
    """Raises ClusterError for a trial that does not fit, SpecError for one that cannot be trained there."""
    shape = slot_shape(spec.trainer, resources)
    if spec.trainer.sync_batchnorm and shape.workers > 1 and not shape.gpus:
        raise SpecError("trainer.sync_batchnorm: works on GPUs only. Write false, or train with one worker.")
    return shape


def _slots(spec: SearchSpec, resources: Resources, here: bool) -> SlotShape:
    from raycnn.slots.devices import UnusableGpu, refuse_unusable

    shape = slots_that_fit(spec, resources)
    if here and shape.gpus:
        try:
            refuse_unusable()
        except UnusableGpu as error:
            raise ClusterError(str(error)) from error
    return shape


def _trackers(spec: SearchSpec) -> None:
    if not spec.tracking:
        return
    from raycnn.search.tracking import check_trackers

    check_trackers(spec)


def _fits(spec: SearchSpec, images: int) -> None:
    from raycnn.training.loop import refuse_batch

    refuse_batch(spec.budget.batch_size, images, spec.trainer.workers)


def _first_bytes(spec: SearchSpec, classes: int) -> int:
    """Of a checkpoint that the search begins with."""
    from raycnn.training.size import checkpoint_bytes

    return checkpoint_bytes(baseline_spec(spec), classes, spec.data.side_px)
