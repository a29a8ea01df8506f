"""`raycnn tune --dry-run`: what a search would do and take, and everything that it would stop for."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raycnn.errors import ClusterError
from raycnn.files import free_bytes
from raycnn.reporting.words import byte_words, duration
from raycnn.spec.search import Finals, SearchSpec
from raycnn.spec.space import FloatRange, IntRange, parameters

if TYPE_CHECKING:
    from raycnn.data.cache import Look
    from raycnn.robustness.units import Unit
    from raycnn.search.checks import Problems, Rehearsal
    from raycnn.search.forecast import Counts, Span
    from raycnn.search.resources import Resources
    from raycnn.search.run import Request
    from raycnn.slots.pool import SlotShape

SETTINGS = 20  # of those that would come next: by them the work of a trial is estimated


def describe(request: "Request", elsewhere: str | None) -> None:
    """Print the plan of a `search.run.Request`. Nothing is started, downloaded or changed.

    elsewhere: as `resources_elsewhere` takes it; None: what is here, or at the request's address.
    Raises RaycnnError with a line for each thing that the search would stop for.
    """
    from raycnn.search.cluster import prepare_environment
    from raycnn.search.resources import resources_elsewhere
    from raycnn.temporary import temporary_folder

    planned = resources_elsewhere(elsewhere) if elsewhere else None
    _say_specification(request.spec)
    with temporary_folder() as folder:
        prepare_environment(folder / "dry-run.log")  # before torch comes, too
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))  # torch makes one with an optimizer
        _plan(request, planned, folder)


def _plan(request: "Request", planned: "Resources | None", folder: Path) -> None:
    """planned: Resources that are not here, or None. folder: for copies."""
    from raycnn.models.trust import trust
    from raycnn.search.checks import Problems, check_start
    from raycnn.search.rundir import refuse_unholdable

    spec, problems = request.spec, Problems()
    trust([spec.model])  # the user has just named it
    resources = planned or problems.of(lambda: _resources(request.address, spec))
    problems.of(lambda: refuse_unholdable(request.run))
    before = problems.of(lambda: _before(request, folder)) or folder / "nothing"
    here = planned is None and request.address is None
    start = check_start(problems, spec, before, request.earlier, resources, here, SETTINGS)
    data = _look_at_data(request, before, problems)
    if resources and start.shape:
        _say_resources(spec, resources, start.shape, planned is not None)
    _say_search(request, data, start.rehearsal and start.rehearsal.finished)
    if data and data.trainable and start.rehearsal and resources and start.shape:
        _say_cost(request, data, start.rehearsal, resources, start.shape, problems)
    problems.refuse()


def _say_specification(spec: SearchSpec) -> None:
    from ruamel.yaml import YAML

    text = io.StringIO()
    YAML().dump(json.loads(spec.model_dump_json(exclude_none=True)), text)
    print(f"# The resolved specification\n{text.getvalue()}")
    print("# Distributions")
    for named in parameters(spec.space):
        where = "".join(f"  if {parent} is {branch}" for parent, branch in named.condition[-1:])
        print(f"{named.name:32} {_distribution(named.parameter)}{where}")


def _distribution(form: Any) -> str:
    if isinstance(form, FloatRange | IntRange):
        step = f", step {form.step:g}" if form.step not in (None, 1) else ""
        return f"{form.type} from {form.low:g} to {form.high:g}{', log' if form.log else ''}{step}"
    return f"one of {', '.join(map(str, form.choice))}"


def _resources(address: str | None, spec: SearchSpec) -> "Resources":
    from raycnn.search.resources import cluster_resources, local_resources

    if address is None:
        return local_resources()
    from raycnn.search.cluster import connect, disconnect

    connect(address)
    try:
        return cluster_resources(spec.trainer)
    finally:
        disconnect()


def _before(request: "Request", folder: Path) -> Path:
    """A directory with what the run is so far: its own, or one in `folder`, empty where there is nothing yet.

    Raises what the search would for a directory that is another's.
    """
    from raycnn.search.mirror import look_at
    from raycnn.search.rundir import is_abandoned

    try:
        copy = folder / "run"
        copy.mkdir()
        seen = look_at(request.run, request.uri, copy)
        return seen if seen.is_dir() and not is_abandoned(seen, request.spec) else folder / "nothing"
    except OSError as error:
        raise ClusterError(f"{request.run}: cannot be read ({error.strerror}). Give another --run.") from error


@dataclass(frozen=True, slots=True)
class _Data:
    """What is known of the images. counts: of search.forecast. units: that finals are scored on; None: not known."""

    counts: "Counts"
    units: "Sequence[Unit] | None"
    trainable: bool


def _look_at_data(request: "Request", before: Path, problems: "Problems") -> _Data | None:
    """Changes `problems`. Says what is there and what would be fetched; None where the images are not known."""
    from raycnn.data.sources import place_of
    from raycnn.search.checks import benchmarks, check_images
    from raycnn.search.forecast import Counts
    from raycnn.search.images import look_for_data, split_of

    spec: SearchSpec = request.spec
    print("\n# Data")
    found = problems.of(lambda: look_for_data(before, spec, request.data))
    if found is None:
        return None
    root, to_copy = found
    scored = None if to_copy else problems.of(lambda: benchmarks(spec, root))
    seen = problems.of(lambda: _look(spec, root, to_copy))
    split = problems.of(lambda: split_of(seen.labels, spec.data, seen.class_names)) if seen else None
    if seen is None or split is None:
        return None
    _say(spec.data.name, _source_words(request, root, to_copy, seen))
    if seen.left_out:
        _say("left out", seen.left_out)
    for directory in scored or ():
        _say(directory.name, directory)
    counts = Counts(
        len(split.train), len(split.validation), seen.test_count, int(seen.labels.max()) + 1, spec.data.side_px
    )
    _say("images", f"{counts.train:,} training, {counts.validation:,} validation, {counts.test:,} test")
    if seen.cache_bytes:
        cache = place_of(None) / "data"
        _say("converted", f"{byte_words(seen.cache_bytes)} in {cache}; {byte_words(free_bytes(cache))} are free")
    facts = {"digest": seen.digest, "split_digest": split.digest} if seen.digest else {}
    check_images(problems, spec, request.run, before, counts.train, counts.classes, facts)
    units = None if scored is None else _units(spec, root, counts.test)
    return _Data(counts, units, counts.train >= spec.budget.batch_size)


def _look(spec: SearchSpec, root: Path | None, to_copy: int) -> "Look | None":
    """A data.cache.Look; None for a folder of pictures that is not here."""
    from raycnn.data.cifar import OFFICIAL, official_look
    from raycnn.data.download import require_space
    from raycnn.data.sources import look, place_of

    if to_copy:
        return official_look(spec.data, 0) if spec.data.name in OFFICIAL else None
    seen = look(spec.data, root)
    require_space(place_of(None) / "data", seen.cache_bytes, "the converted images take")
    return seen


def _source_words(request: "Request", root: Path | None, to_copy: int, seen: "Look") -> str:
    from raycnn.data.sources import place_of

    data = request.spec.data
    if data.name == "shapes":
        return "generated"
    if to_copy:
        return f"{byte_words(to_copy)} are copied from {request.data} at the start"
    place = place_of(root or data.root)
    if seen.download_bytes:
        return f"not in {place}: {byte_words(seen.download_bytes)} are downloaded to it at the start"
    return f"{place}{f' ({seen.note})' if seen.note else ''}"


def _units(spec: SearchSpec, root: Path | None, test_count: int) -> "Sequence[Unit]":
    from raycnn.robustness.units import planned_units

    return planned_units(spec.finals, spec.data, root, test_count) if isinstance(spec.finals, Finals) else []


def _say_resources(spec: SearchSpec, resources: "Resources", shape: "SlotShape", elsewhere: bool) -> None:
    from raycnn.search.resources import placement

    print("\n# Resources")
    _say("planned for" if elsewhere else "found", resources.words())
    _say("one trial", f"{shape.words()}{placement(shape, resources)}")
    _say("concurrent trials", _slots(spec, resources, shape))


def _slots(spec: SearchSpec, resources: "Resources", shape: "SlotShape") -> int:
    from raycnn.search.resources import slot_count

    return min(slot_count(spec.trainer, shape, resources), spec.search.trials)


def _say_search(request: "Request", data: _Data | None, finished: int | None) -> None:
    from raycnn.search.estimate import estimate, expected

    spec: SearchSpec = request.spec
    print("\n# Search")
    there = f" (exists: would be resumed, {finished} of {spec.search.trials} trials are finished)" if finished else ""
    _say("run directory", f"{request.uri} (worked on in {request.run})" if request.uri else f"{request.run}{there}")
    searched = spec.search.trials - 1
    on = [f"{searched * share:.3g} after epoch {epoch}" for epoch, share in expected(spec).going_on.items()]
    _say(
        "rungs", f"of {searched} searched trials go on, roughly: {', '.join(on)}" if on else "none: no trial is stopped"
    )
    if data is None:
        return
    images = estimate(spec, data.counts.train, data.counts.train + data.counts.validation)
    words = f"about {images.likely:,} in the search, at most {images.most:,}; {images.finals:,} in the finals"
    _say("images to train", words)


def _say_cost(
    request: "Request",
    data: _Data,
    rehearsal: "Rehearsal",
    resources: "Resources",
    shape: "SlotShape",
    problems: "Problems",
) -> None:
    """Changes `problems`."""
    from raycnn.search.checks import require_room
    from raycnn.search.forecast import finals_s, measured_here, run_bytes, scoring_s, search_s

    spec, counts, slots = request.spec, data.counts, _slots(request.spec, resources, shape)
    measured = problems.of(lambda: measured_here(spec, counts, rehearsal.settings, shape))
    units, finished, left = data.units or (), rehearsal.finished, rehearsal.finals_left
    needed = problems.of(lambda: run_bytes(spec, counts, rehearsal.settings, units, finished, left))
    if needed is None:
        return  # there is no network
    print("\n# Time and disk")
    if measured:
        at_once = f"; {slots} slots at once" if slots > 1 else ""
        _say("measured", f"{measured.words}{at_once}; assumed linear, without starts of some 20 s")
        _say_time("search", search_s(spec, counts, measured, slots, finished), request.time_budget_s)
        if isinstance(spec.finals, Finals):
            _say_time("finals", finals_s(spec, counts, measured, slots, left))
            if data.units is not None and left:
                _say_time("scoring", scoring_s(counts, measured, units, resources, shape, left))
    elif shape.gpus:
        _say("time", "not known: trials get GPUs, and there is none here to measure with")
    _say("run directory", f"up to {byte_words(needed)}; {byte_words(free_bytes(request.run))} are free")
    problems.of(lambda: require_room(request.run, needed, "the whole search takes up to"))


def _say_time(what: str, span: "Span", most_s: float | None = None) -> None:
    if not span.most:
        _say(what, "nothing is left to do")
        return
    likely, least, most = (min(seconds, most_s or seconds) for seconds in (span.likely, span.least, span.most))
    _say(what, f"about {duration(likely)} ({duration(least)} to {duration(most)})")


def _say(what: str, words: object) -> None:
    print(f"{what:19} {words}", flush=True)
