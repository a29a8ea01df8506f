"""Scoring: every finalist and seed on every set, each file read once for all of them, spread over the cluster.

What robustness.parquet already holds, of the same images and the same weights, is not scored again, so a killed scoring
goes on.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray

from raycnn.data.dataset import ImageSet
from raycnn.data.sources import load, open_cached
from raycnn.errors import CheckpointError, ClusterError, SpecError
from raycnn.models.trust import Trusted, adopt, trusted
from raycnn.robustness.archives import CorruptionFile, PerturbationFile
from raycnn.robustness.fingerprints import of_weights
from raycnn.robustness.frost import PROCEDURAL
from raycnn.robustness.origin import origin
from raycnn.robustness.results import RESULTS, Key, Results, Scored
from raycnn.robustness.units import Progress, Unit, score_unit, units, unscored
from raycnn.run_files import read_spec
from raycnn.search.finalists import FINALISTS, read_finalists
from raycnn.search.head_files import HeadFiles, serve_head_files
from raycnn.search.images import data_root
from raycnn.search.resources import Scorers, cluster_resources, scorers
from raycnn.search.rundir import record_openings, write_manifest
from raycnn.search.seeds import derived_seed
from raycnn.slots.devices import UnusableGpu, own_device
from raycnn.spec.search import Finals
from raycnn.training.checkpoint import load_classifier, read, restore_classifier

Job = tuple[Unit, dict[Key, Path]]
"""A unit, and the checkpoints of the models that it is to be scored for, by name and seed."""


def score_run(run: Path, place: str | None, say: Callable[[str], None], told: bool = False) -> Path:
    """Score the finals of a run on the Ray cluster that is connected; returns the path of robustness.parquet.

    told: whether the user has seen the notes on the data set, by the search.
    """
    spec = read_spec(run)
    if not isinstance(spec.finals, Finals):
        raise SpecError("finals: are off in this search. Run it again with finals, then score.")
    root = data_root(run, spec, place)
    data = load(spec.data, root)
    for line in [] if told else data.notes():
        say(line)
    models = _models(run)
    results = Results(run)
    seed = derived_seed(spec.search.seed, "test corruptions")
    wished = units(spec.finals, spec.data, root, data, seed)
    weights = {key: _weights(key, path) for key, path in models.items()}  # one in memory at a time
    missing = unscored(wished, data.open_test(), weights, results, say)
    todo: list[Job] = [(unit, {key: models[key] for key in keys}) for unit, keys in missing]
    if not todo:
        say("everything is scored already")
        return run / RESULTS
    files = dict.fromkeys(unit.file.path.parent for unit, _ in todo if unit.file)
    record_openings(run, [data.directory, *files], "scoring of the finals")
    origins = {directory.name: origin(directory) for directory in files}
    if any((unit.set, unit.name) == ("generated-c", "frost") for unit, _ in todo):
        origins["generated corruptions"] = f"frost is {PROCEDURAL}"
    write_manifest(run, {"benchmarks": origins})
    say(f"scoring {len(models)} trainings on {len(todo)} sets")
    resources = cluster_resources(spec.trainer)
    one_node = len(resources.nodes + resources.to_come) == 1
    source: Any = data.directory if one_node else ray.put(data.open_test())
    files = None if one_node else serve_head_files(run)
    progress = Progress([unit.images * len(wanted) for unit, wanted in todo], say)
    for (unit, wanted), scored in _spread(todo, source, files, scorers(spec.trainer, resources)):
        results.add(unit, scored)
        progress.done(unit, unit.images * len(wanted))
    results.save()
    return run / RESULTS


def _models(run: Path) -> dict[Key, Path]:
    return {(final.model, final.seed): run / final.directory / "checkpoint.pt" for final in read_finalists(run)}


def _weights(key: Key, path: Path) -> str:
    """Of a final. Raises CheckpointError where the checkpoint is damaged or of another training."""
    checkpoint = read(path)
    if checkpoint.spec.seed != key[1]:
        raise CheckpointError(
            f"{path}: is of seed {checkpoint.spec.seed}, and finals/{FINALISTS} says {key[1]}. Give the command of the "
            "search again, which writes that file anew."
        )
    return of_weights(restore_classifier(checkpoint, path).eval())


def _spread(
    todo: list[Job], source: Any, files: HeadFiles | None, processes: Scorers
) -> Iterator[tuple[Job, list[Scored]]]:
    """Results as they come, from actors of which each holds all models, and takes unit after unit.

    Those on nodes that are still to come wait for them, and units for none of them.
    """
    # A node that goes takes its scorer along: another one takes up its unit.
    actor: Any = ray.remote(num_cpus=processes.cpus, num_gpus=processes.gpus, max_restarts=4, max_task_retries=4)(
        _Scorer
    )
    actors = [
        actor.options(name=f"scorer-{index}").remote(source, processes.cpus, files, trusted())
        for index in range(min(processes.count, len(todo)))
    ]
    waiting = list(reversed(todo))
    expected: dict[Any, tuple[Any, Job | None]] = {one.begin.remote(): (one, None) for one in actors}
    done = 0
    while done < len(todo):
        (ready,), _ = ray.wait(list(expected), num_returns=1)
        scorer, job = expected.pop(ready)
        scored: Any = ray.get(ready)
        if waiting:
            following = waiting.pop()
            expected[scorer.score.remote(*following)] = (scorer, following)
        if job is not None:
            done += 1
            yield job, scored


class _Scorer:
    """Holds the test images and the models that it has needed so far. files: where other nodes have theirs. own: the
    networks of the user's own that may be imported."""

    def __init__(self, source: Any, threads: int, files: HeadFiles | None, own: Trusted) -> None:
        import torch

        adopt(own)
        torch.set_num_threads(threads)
        self._test: ImageSet = open_cached(source).open_test() if isinstance(source, Path) else source
        self._loaded: dict[Key, Any] = {}
        self._weights: dict[Key, str] = {}
        self._file = contextlib.nullcontext if files is None else files.file

    @cached_property
    def _device(self) -> Any:
        try:
            return own_device(in_train=False)
        except UnusableGpu as error:
            raise ClusterError(str(error)) from error

    def begin(self) -> None:
        """Before the first unit. Raises ClusterError where PyTorch cannot use the GPU that Ray has given."""
        _ = self._device

    def score(self, unit: Unit, checkpoints: Mapping[Key, Path]) -> list[Scored]:
        for key, path in checkpoints.items():
            if key not in self._loaded:
                with self._file(path) as here:
                    self._loaded[key] = load_classifier(here, self._device)
                self._weights[key] = of_weights(self._loaded[key])
        models = {key: self._loaded[key] for key in checkpoints}
        if not isinstance(unit.file, CorruptionFile | PerturbationFile):
            return score_unit(models, self._weights, unit, self._test, self._device)
        with self._file(unit.file.path) as here:
            near = replace(unit, file=replace(unit.file, path=here))
            return score_unit(models, self._weights, near, self._test, self._device)
