"""What may be wrong with a machine or a cluster, before a search finds out: one finding for each thing looked at."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from raycnn.errors import ClusterError, RaycnnError, SpecError
from raycnn.invocation import command
from raycnn.search.cluster import Cluster
from raycnn.search.nodes import gpus_by_node, nodes_without, on_every_node
from raycnn.slots.devices import runs_on
from raycnn.spec.data import DataSpec
from raycnn.storage import is_uri

PACKAGES = ("raycnn", "ray", "torch", "torchvision", "optuna", "numpy", "pyarrow")
SKEW_S = 1.0  # of clocks; more makes logs and tables of several nodes misleading
SHM_BYTES = 2**30  # of /dev/shm: Ray keeps its objects there, gloo and NCCL exchange through it
STORAGE_BYTES = 64 * 2**20
SLOW_STORAGE = 20e6  # bytes/s: a checkpoint of a ResNet-18 with its optimizer, 90 MB, would take longer than 4 s
EXCHANGES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """what was looked at, what was seen, and what to do; nothing to do: it is well."""

    what: str
    seen: str
    mend: str = ""


def examine(cluster: Cluster, run: Path, data: tuple[str, str] | None) -> Iterator[Finding]:
    """Look at everything, on every node. run: where a run would lie. data: a data set, and its directory or URI.

    Raises SpecError for a data set of another name, before it looks at anything.
    """
    known = get_args(DataSpec.model_fields["name"].annotation)
    if data and data[0] not in known:
        raise SpecError(f"--name {data[0]}: is not known. Choose from {', '.join(known)}.")
    facts = on_every_node(node_facts)
    lost = {name: fact for name, fact in facts.items() if not isinstance(fact, dict)}
    yield from (Finding(f"node {name}", f"does not answer ({error})", "Restart it.") for name, error in lost.items())
    counted = gpus_by_node()
    facts = {name: fact | {"gpus of Ray": counted.get(name, 0.0)} for name, fact in facts.items() if name not in lost}
    yield versions(facts)
    yield from gpus(facts)
    yield clocks()
    yield shared_memory(facts)
    yield storage(run, len(facts))
    if data:
        yield images(*data)
    yield token(cluster)
    yield exchange()


def node_facts() -> dict[str, Any]:
    """Of this node."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    import raycnn

    sources = sorted(Path(raycnn.__path__[0]).rglob("*.py"))
    found["raycnn's code"] = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:12]
    cards = []
    if torch.cuda.is_available():
        built_for = torch.cuda.get_arch_list()
        fitting = (
            n for n in range(torch.cuda.device_count()) if runs_on(torch.cuda.get_device_capability(n), built_for)
        )
        cards = [torch.cuda.get_device_name(card) for card in fitting]
        found["CUDA of torch"] = str(torch.version.cuda)
        found["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "versions": found,
        "cards": cards,
        "nvidia": _nvidia(),
        "shm": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else None,
    }


def _nvidia() -> list[str]:
    """Driver and name of each card that the driver sees, also where torch cannot use it."""
    import subprocess

    query = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def versions(facts: dict[str, dict[str, Any]]) -> Finding:
    """Whether all nodes run the same software."""
    named = {name: fact["versions"] for name, fact in facts.items()}
    first = next(iter(named.values()))
    differing = [
        f"{package} is {' and '.join(sorted(seen))}"
        for package in first
        if len(seen := {str(own.get(package, "missing")) for own in named.values()}) > 1
    ]
    if differing:
        return Finding(
            "versions", "; ".join(differing), "Install the same on all nodes: scripts/setup, from one checkout."
        )
    words = ", ".join(f"{package} {first[package]}" for package in ("python", "raycnn", "ray", "torch", "optuna"))
    return Finding("versions", words + (f", the same on {len(facts)} nodes" if len(facts) > 1 else ""))


def gpus(facts: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """The cards of each node, and whether torch can use what Ray counts (of the driver's, what CUDA_VISIBLE_DEVICES
    names)."""
    for name, fact in facts.items():
        seen, usable, counted = fact["nvidia"], fact["cards"], fact["gpus of Ray"]
        if counted > len(usable):
            mend = "Install a driver for the CUDA of torch, or a torch for the driver's CUDA; see CUDA_VISIBLE_DEVICES."
            yield Finding(f"GPUs of {name}", f"Ray counts {counted:g}, torch can use {len(usable)}", mend)
        elif usable:
            driver = f", driver {seen[0].split(',')[0]}" if seen else ""
            driver += f", {len(seen) - int(counted)} more that Ray does not count" if len(seen) > counted else ""
            own = fact["versions"]
            yield Finding(
                f"GPUs of {name}",
                f"{counted:g} x {usable[0]}{driver}, CUDA {own['CUDA of torch']}, NCCL {own['NCCL']}",
            )
    if not any(fact["gpus of Ray"] for fact in facts.values()):
        hidden = sum(len(fact["nvidia"]) for fact in facts.values())
        words = f"none that Ray counts, {hidden} that the driver sees; see CUDA_VISIBLE_DEVICES" if hidden else "none"
        yield Finding("GPUs", f"{words}; trials train on processors")


def now() -> float:
    """This node's clock."""
    return time.time()


def clocks() -> Finding:
    """How far the nodes' clocks are from this one's: half a round trip is the error of that."""
    apart: dict[str, float] = {}
    shortest: dict[str, float] = {}
    for _ in range(EXCHANGES):
        asked = time.time()
        answers = on_every_node(now)
        trip = time.time() - asked
        for name, answer in answers.items():
            if isinstance(answer, float) and trip < shortest.get(name, float("inf")):
                shortest[name], apart[name] = trip, answer - asked - trip / 2
    worst = max(apart, key=lambda name: abs(apart[name]))
    seen = f"at most {abs(apart[worst]):.2f} s apart (measured to {shortest[worst] / 2:.2f} s)"
    if abs(apart[worst]) - shortest[worst] / 2 > SKEW_S:
        return Finding("clocks", f"{seen}: {worst}", "Let it follow a time server: timedatectl set-ntp true.")
    return Finding("clocks", seen)


def shared_memory(facts: dict[str, dict[str, Any]]) -> Finding:
    """Whether /dev/shm has room."""
    free = {name: fact["shm"] for name, fact in facts.items() if fact["shm"] is not None}
    if not free:
        return Finding("/dev/shm", "none", "Mount a tmpfs there.")
    name = min(free, key=lambda one: free[one])
    seen = f"{free[name] / 2**30:.1f} GB free"
    if free[name] < SHM_BYTES:
        return Finding("/dev/shm", f"{seen} on {name}", "Give containers --shm-size=4g or more.")
    return Finding("/dev/shm", seen)


def storage(run: Path, nodes: int) -> Finding:
    """How fast the run directory is, on each node that shares it with the head."""
    place = run if run.exists() else next(parent for parent in run.parents if parent.exists())
    what = f"storage {place}"
    try:
        without = nodes_without(place) if nodes > 1 else {}
    except ClusterError as error:
        seen, _, mend = str(error).removeprefix(f"{place}: ").rpartition(". ")
        return Finding(what, seen, mend)
    rates = on_every_node(storage_rates, str(place))
    rates = {name: rate for name, rate in rates.items() if name not in without}
    for name, rate in rates.items():
        if not isinstance(rate, tuple):
            return Finding(what, f"cannot be used on {name} ({rate})", "Free space there, or give another --run.")
    slowest = min(rates, key=lambda name: rates[name][0])
    written, read = rates[slowest]
    seen = f"writes {written / 1e6:,.0f} MB/s, reads {read / 1e6:,.0f} MB/s"
    if without:
        seen += f", not shared by {len(without)} of {nodes} nodes: their checkpoints travel through Ray"
    elif nodes > 1:
        seen += f" ({slowest}, the slowest of {nodes}), shared by all"
    if written < SLOW_STORAGE:
        return Finding(what, seen, "Take faster storage, or raise trainer.checkpoint_s.")
    return Finding(what, seen)


def storage_rates(place: str) -> tuple[float, float]:
    """Bytes/s of one file written through to the disk, and read again past the cache where the system allows that."""
    content = os.urandom(STORAGE_BYTES)
    with tempfile.TemporaryFile(dir=place) as file:  # of no name: a worker that is killed leaves nothing
        began = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - began
        began = time.perf_counter()
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        if file.read() != content:
            raise OSError("reads other bytes than were written")
        return STORAGE_BYTES / written, STORAGE_BYTES / (time.perf_counter() - began)


def images(name: str, place: str) -> Finding:
    """Whether the data set is there, and the official one. Nothing is downloaded."""
    from raycnn.data import cifar
    from raycnn.data.remote import local_root
    from raycnn.data.sources import load, place_of

    what = f"data {name}"
    spec = DataSpec.model_validate({"name": name})
    official = name in cifar.OFFICIAL
    try:
        root = local_root(place, spec)
        if official and not cifar.is_complete(name, place_of(root)):
            get = command("fetch", name, *([] if is_uri(place) else ["--data", place]))
            return Finding(what, f"{place}: not there, or not all of its files", f"Get it: {get}")
        data = load(spec, root)
    except RaycnnError as error:
        seen, _, mend = str(error).rpartition(". ")
        return Finding(what, seen or "cannot be had", mend)
    return Finding(what, f"{len(data.train.labels):,} training images{', hashes right' if official else ''}")


def token(cluster: Cluster) -> Finding:
    """Whether the Job API refuses who has no token, and where it listens."""
    import requests

    try:
        answer = requests.get(f"http://{cluster.dashboard}/api/jobs/", timeout=10)
    except requests.RequestException as error:
        seen = f"the dashboard at {cluster.dashboard} does not answer ({type(error).__name__})"
        return Finding("token", seen, "Start Ray with its dashboard: pip install 'ray[default]'.")
    if answer.status_code == 401:
        return Finding("token", f"on: {cluster.dashboard} answers 401 without it")
    return Finding(
        "token",
        f"off: whoever reaches {cluster.dashboard} runs programs on the cluster (status {answer.status_code})",
        "Set RAY_AUTH_MODE=token for ray start on all nodes; ray get-auth-token --generate makes one.",
    )


def exchange() -> Finding:
    """How fast gradients go round."""
    from raycnn.search.bandwidth import measure

    what = "all-reduce"
    try:
        found = measure()
    except Exception as error:  # whatever torch, NCCL or Ray raises: it is the finding
        words = " ".join(str(error).split())[-300:]
        return Finding(what, f"fails ({type(error).__name__}: {words})", "Let the nodes reach each other on all ports.")
    table = ", ".join(f"{_size(size)} {bandwidth / 1e9:.2g}" for size, bandwidth in found.busbw.items())
    seen = f"{found.backend}, {found.ranks} ranks, {found.transport}: busbw {table} GB/s"
    best = max(found.busbw.values())
    if found.expected and best < found.expected:
        return Finding(
            what,
            f"{seen}; the link should give {found.expected / 1e9:.2g} or more",
            "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME name the interface to take; NCCL_DEBUG=INFO says what is taken.",
        )
    return Finding(what, seen)


def _size(size: int) -> str:
    return f"{size >> 20} MB" if size >= 2**20 else f"{size >> 10} kB"
