"""One search from start to end: `run_search`."""

import contextlib
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn import models
from raycnn.data.sealing import sealed
from raycnn.errors import RaycnnError
from raycnn.models.trust import remember, trust
from raycnn.reporting.words import counted
from raycnn.search import cluster as ray_cluster
from raycnn.search.checks import Problems, benchmarks, check_images, check_start, slots_that_fit
from raycnn.search.images import DATA_PLACE, SearchImages, data_root, search_images
from raycnn.search.mirror import mirrored
from raycnn.search.observer import Observer
from raycnn.search.resources import local_resources
from raycnn.search.rundir import (
    circumstances,
    finish_manifest,
    held,
    keep_spec,
    record_openings,
    refuse_other,
    write_manifest,
)
from raycnn.spec.search import Finals, SearchSpec


@dataclass(frozen=True, slots=True)
class Request:
    """A search to run or to resume. data: directory or URI. address: of a Ray cluster; None: this machine.
    uri: what `run` is copied to.

    earlier: runs from whose trials the sampler learns. time_budget_s: for the trials; finals and scoring come after.
    """

    spec: SearchSpec
    run: Path
    data: str | None = None
    address: str | None = None
    earlier: tuple[Path, ...] = ()
    time_budget_s: float | None = None
    uri: str | None = None


def run_search(request: Request, observer: Observer) -> Path:
    """Search, finals, scoring, report: whatever of it is not done yet. Returns the report's path.

    Everything lies in `request.run`; the same call after an interrupt or a crash goes on from there.
    Raises SpecError, DataError, ClusterError; KeyboardInterrupt passes through after the workers have been stopped.
    """
    with held(request.run), mirrored(request.run, request.uri, observer.warning):
        refuse_other(request.run, request.spec)
        ray_cluster.prepare_environment(request.run / "raycnn.log")
        trust([request.spec.model])  # the user has just named it
        root = _refuse_what_stops_it(request, observer)
        keep_spec(request.run, request.spec)
        remember(request.run, request.spec.model)
        write_manifest(request.run, {})
        with contextlib.ExitStack() as seals, ThreadPoolExecutor(1, thread_name_prefix="images") as thread:
            # The data are read while Ray and the workers start.
            images = thread.submit(_images, request, root, observer, seals)
            _search_and_score(request, root, images, observer)
        from raycnn.reporting.page import write_report

        finish_manifest(request.run)
        observer.phase("report")
        return write_report(request.run, observer.warning)


def _refuse_what_stops_it(request: Request, observer: Observer) -> Path | None:
    """Raises now what can be known before data are copied and Ray is started, all together; then what is known before
    the data are read. The directory with the data."""
    spec, run = request.spec, request.run
    here = request.address is None
    problems = Problems()
    check_start(problems, spec, run, request.earlier, local_resources() if here else None, here)
    problems.refuse()  # before hours of copying
    root = data_root(run, spec, request.data, _progress(observer))
    opened = benchmarks(spec, root)
    record_openings(run, opened, "headers and labels checked before the search; no images")
    return root


def _images(request: Request, root: Path | None, observer: Observer, seals: contextlib.ExitStack) -> SearchImages:
    """The images of the search, and a model of the user's own once more: one that looks for test images is known now.

    seals: from here on, until it is closed, nothing in this process can open a test image.
    """
    spec, run = request.spec, request.run
    images = search_images(spec, root, run, _progress(observer))
    seals.enter_context(sealed(images.sealed))
    models.check(spec.model, images.data.train.images.shape[1])
    problems = Problems()
    check_images(problems, spec, run, run, len(images.split.train), len(images.data.class_names), images.facts())
    problems.refuse()
    return images


def _search_and_score(request: Request, root: Path | None, images: "Future[SearchImages]", observer: Observer) -> None:
    from raycnn.search.study import Study

    spec, run = request.spec, request.run
    observer.phase("starting workers")
    # What the search imports takes seconds, and so do Ray's processes: both at once.
    imports = threading.Thread(
        target=_import, args=("ray.train.torch", "raycnn.search.tuning", "tensorboardX"), daemon=True
    )
    imports.start()
    connected = ray_cluster.connect(request.address)
    imports.join()  # two threads in Ray's circular imports see modules half made
    if connected.new_token:
        observer.message(f"the dashboard asks for a token; it lies in {connected.new_token}, for you alone")
    try:
        study = Study(run, spec, request.earlier)
        while study.notes:
            observer.warning(study.notes.pop(0))
        _train(request, study, connected, images, observer)
        from raycnn.search.table import write_trials

        write_trials(run)
        if isinstance(spec.finals, Finals):
            from raycnn.search.scoring_job import score_as_job

            observer.phase("scoring")
            score_as_job(run, connected, root, observer.message)
    finally:
        ray_cluster.disconnect()


def _import(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)


def _train(
    request: Request,
    study: Any,
    connected: ray_cluster.Cluster,
    images: "Future[SearchImages]",
    observer: Observer,
) -> None:
    """Trials and finals, on one pool of slots, which is gone before scoring: it would wait for what they hold."""
    from raycnn.search.dashboard import StudyDashboard
    from raycnn.search.finals import no_finals, plan_finals, train_finals, write_finalists
    from raycnn.search.gauges import Gauged
    from raycnn.search.head_files import serve_head_files
    from raycnn.search.nodes import nodes_without
    from raycnn.search.resources import cluster_resources, slot_count
    from raycnn.search.tuning import tune_trials
    from raycnn.search.worker import WORKLOAD
    from raycnn.slots.pool import SlotPool

    spec, run = request.spec, request.run
    wished = None if connected.ours else spec.trainer
    resources = cluster_resources(wished)
    without = nodes_without(run) if len(resources.nodes) > 1 else {}
    files = None if connected.ours else serve_head_files(run)  # nodes may come that share no disk with this one
    shape = slots_that_fit(spec, resources)
    left = spec.search.trials - len(study.finished())
    most = _jobs(spec, left)
    planned = min(slot_count(spec.trainer, shape, resources), most)
    if left <= 0 and all(final.done for final in plan_finals(run, spec, study)):
        write_finalists(run, plan_finals(run, spec, study))
        write_manifest(run, {"data": images.result().facts()})
        return
    with (
        ThreadPoolExecutor(most, thread_name_prefix="final") as threads,  # they end when the pool has
        SlotPool(WORKLOAD, shape, run / "tune" / "slots", on_news=observer.warning) as pool,
    ):
        pool.grow(min(slot_count(spec.trainer, shape, resources, grown=True), most))
        ready = images.result()
        write_manifest(
            run,
            {
                **circumstances(resources),
                "data": ready.facts(),
                **({DATA_PLACE: request.data} if request.data else {}),
                "workers": shape.workers,
                "threads": shape.cpus,
                "gpus_per_worker": shape.gpus,
                "slots": planned,
            },
        )
        pool.post(ready.preparation(shape.cpus, files))
        gauged = Gauged(observer, run.name, spec.search.trials, spec.search.objectives, study.finished())
        dashboard = StudyDashboard(run)
        boards = {"Ray dashboard": f"http://{connected.dashboard}", "optuna-dashboard": f"http://{dashboard.address}"}
        observer.header(_header(request, ready, resources, shape, planned, without, boards))
        for line in ready.duplicates:
            observer.warning(line)
        stop = threading.Event()
        follower = threading.Thread(
            target=_follow_cluster, args=(pool, spec, shape, most, gauged, stop), daemon=True, name="cluster"
        )
        if not connected.ours:
            follower.start()
        try:
            if left > 0:
                observer.phase("search")
                deadline_s = None if request.time_budget_s is None else time.monotonic() + request.time_budget_s
                tune_trials(run, spec, study, pool, planned, gauged, deadline_s, gauged.slots)
            finals = plan_finals(run, spec, study)
            if finals:
                found = len({final.model for final in finals}) - 1
                if isinstance(spec.finals, Finals) and found < spec.finals.top:
                    observer.warning(f"{found} of {spec.finals.top} finalists: no more trials ran to their end")
                observer.phase("finals")
                write_finalists(run, finals)
                failures = train_finals(finals, spec, pool.hub, observer, threads)
                lost = {final.model for final in finals if not final.done}
                if lost and lost >= {final.model for final in finals} - {"baseline"}:
                    raise RaycnnError(no_finals(lost, failures))
                if lost:
                    observer.warning(
                        f"finals: without {', '.join(sorted(lost))}, not all of whose trainings could be done"
                        + ("; nothing can be compared with an untuned network" if "baseline" in lost else "")
                    )
                    write_finalists(run, [final for final in finals if final.model not in lost])
        finally:
            stop.set()
            dashboard.close()
            if not connected.ours:
                follower.join(5)


def _jobs(spec: SearchSpec, left: int) -> int:
    """Trainings that are left, at most: more slots than that are of no use."""
    finals = (spec.finals.top + 1) * spec.finals.seeds if isinstance(spec.finals, Finals) else 0
    return max(left, finals, 1)


def _follow_cluster(pool: Any, spec: SearchSpec, shape: Any, most: int, gauged: Any, stop: threading.Event) -> None:
    """Slots come as nodes come, and those that will not be needed again go, so that the cluster can take their nodes
    back. A lost node's slots wait for resources by themselves."""
    from ray.exceptions import RayError

    from raycnn.search.resources import cluster_resources, slot_count

    while not stop.wait(10):
        with contextlib.suppress(RayError):  # the pool is closing
            pool.grow(min(slot_count(spec.trainer, shape, cluster_resources(spec.trainer)), most))
            pool.retire_idle(_jobs(spec, spec.search.trials - gauged.finished))


def _header(
    request: Request,
    images: SearchImages,
    resources: Any,
    shape: Any,
    slots: int,
    without: Mapping[str, str],
    boards: Mapping[str, str],
) -> dict[str, str]:
    from raycnn.search.resources import placement

    spec, facts = request.spec, images.facts()
    run = f"{request.uri} (worked on in {request.run})" if request.uri else str(request.run)
    if without:
        run += f" (not on {', '.join(without)}, whose checkpoints travel through Ray)"
    cpus = "1 CPU" if shape.cpus == 1 else f"{shape.cpus:g} CPUs"
    worker = f"{shape.workers} worker{'s' if shape.workers > 1 else ''} with {cpus}" + (
        f" and {shape.gpus:g} GPU" if shape.gpus else ""
    )
    unofficial = "" if facts["verified"] else ", unofficial copy"
    return {
        "data": f"{facts['name']}: {facts['train']:,} training, {facts['validation']:,} validation, "
        f"{facts['test']:,} test images{unofficial}",
        **({"left out": facts["left_out"]} if facts["left_out"] else {}),
        "model": f"{spec.model}, {counted(spec.budget.epochs, 'epoch')} of batch size {spec.budget.batch_size}",
        "search": f"{spec.search.trials} trials, {spec.search.sampler}, {spec.search.scheduler}, "
        f"minimising {' and '.join(spec.search.objectives)}",
        "resources": resources.words(),
        "slots": f"{slots}, each {worker}{placement(shape, resources)}",
        "run": run,
        **boards,
    }


def _progress(observer: Observer) -> Callable[[str, int, int], None]:
    """Says what takes long, at most every five seconds."""
    said = [time.monotonic()]

    def progress(what: str, done: int, total: int) -> None:
        if time.monotonic() - said[0] > 5:
            said[0] = time.monotonic()
            observer.message(f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}")

    return progress
