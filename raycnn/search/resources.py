"""What there is, and how many trials fit into it at once."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import ClusterError, SpecError
from raycnn.slots.pool import SlotShape
from raycnn.spec.search import Trainer

_SCORER_CPUS = 4
"""At most. More threads in one process gain little: some of what they do is done one after the other."""
CPUS_PER_GPU = 8.0
"""That a worker with a GPU has at most, if it may choose, and that `--for` takes for granted."""


@dataclass(frozen=True, slots=True)
class Resources:
    """CPUs and GPUs by node: of those that are there, and of those that an autoscaler may add."""

    nodes: tuple[tuple[float, float], ...]
    to_come: tuple[tuple[float, float], ...] = ()

    @property
    def maximum(self) -> tuple[float, float]:
        """CPUs and GPUs of the cluster at its largest."""
        every = self.nodes + self.to_come
        return sum(cpus for cpus, _ in every), sum(gpus for _, gpus in every)

    @property
    def cpus(self) -> float:
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(gpus for _, gpus in self.nodes)

    def words(self) -> str:
        """For the header: `2 CPUs`, `64 CPUs, 8 GPUs on 2 nodes`."""
        parts = [f"{self.cpus:g} CPUs"] + ([f"{self.gpus:g} GPUs"] if self.gpus else [])
        most_cpus, most_gpus = self.maximum
        grown = f", up to {most_cpus:g} CPUs and {most_gpus:g} GPUs as nodes come" if self.to_come else ""
        return ", ".join(parts) + (f" on {len(self.nodes)} nodes" if len(self.nodes) > 1 else "") + grown


def local_resources() -> Resources:
    """This machine as Ray would see it, without starting Ray: of its GPUs those that CUDA_VISIBLE_DEVICES names."""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    gpus = get_accelerator_manager_for_resource("GPU")  # of whichever maker
    count = gpus.get_current_node_num_accelerators() if gpus else 0
    visible = gpus.get_current_process_visible_accelerator_ids() if gpus else None
    if visible is not None:
        count = min(count, len(visible))  # as Ray's ResourceAndLabelSpec does
    return Resources(((float(get_num_cpus()), float(count)),))


def resources_elsewhere(text: str) -> Resources:
    """Those of `8xGPU`, `4x8xGPU` (four nodes with eight each) or `16xCPU`. Each GPU comes with CPUS_PER_GPU CPUs.

    Raises SpecError for what is not written so.
    """
    found = re.fullmatch(r"(?:([1-9]\d{0,3})x)?([1-9]\d{0,3})x([CG]PU)s?", text.strip(), re.IGNORECASE)
    if found is None:
        raise SpecError(f"--for {text}: is not known. Write 8xGPU, 4x8xGPU (four nodes with eight each) or 16xCPU.")
    nodes, count, on_gpu = int(found[1] or 1), float(found[2]), found[3].upper() == "GPU"
    return Resources(((count * CPUS_PER_GPU, count) if on_gpu else (count, 0.0),) * nodes)


def cluster_resources(wished: Trainer | None = None) -> Resources:
    """The cluster that this process is connected to.

    wished: where an autoscaler does not say how far it grows (KubeRay's does not), nodes are expected for all of its
    slots, if it says how many of which size.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    here = [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in alive]
    workers = [
        have for have, node in zip(here, alive, strict=True) if "node:__internal_head__" not in node["Resources"]
    ]
    found = Resources(tuple(here), tuple(_to_come(workers)))
    return found if found.to_come or wished is None else expecting(wished, found)


def expecting(trainer: Trainer, resources: Resources) -> Resources:
    """With nodes to come for those of trainer.slots that do not fit now; unchanged where their size is not given."""
    cpus, gpus = trainer.cpus_per_worker, trainer.gpus_per_worker
    if trainer.slots is None or cpus == "auto" or gpus == "auto":
        return resources
    shape = SlotShape(trainer.workers, cpus, gpus)
    there = sum(_workers_on(node, shape) for node in resources.nodes) // shape.workers
    kind = (cpus * shape.workers, gpus * shape.workers)
    return Resources(resources.nodes, (kind,) * max(0, trainer.slots - there))


def slot_shape(trainer: Trainer, resources: Resources) -> SlotShape:
    """The workers of one slot, with every `auto` resolved. Raises ClusterError for what can never fit."""
    most_cpus, most_gpus = resources.maximum
    gpus = trainer.gpus_per_worker if trainer.gpus_per_worker != "auto" else float(most_gpus >= trainer.workers)
    if gpus * trainer.workers > most_gpus:
        raise ClusterError(
            f"trainer: a trial needs {trainer.workers} x {gpus:g} GPUs, the cluster has {most_gpus:g}. "
            "Lower trainer.workers, write gpus_per_worker: 0 to train on CPUs, or add GPUs; to plan for a machine "
            "with GPUs add --dry-run --for 8xGPU."
        )
    cpus = (
        trainer.cpus_per_worker if trainer.cpus_per_worker != "auto" else _fair_cpus(gpus, trainer.workers, resources)
    )
    if cpus * trainer.workers > most_cpus:
        raise ClusterError(
            f"trainer: a trial needs {trainer.workers} x {cpus:g} CPUs, the cluster has {most_cpus:g}. "
            "Lower trainer.workers or trainer.cpus_per_worker, or add CPUs."
        )
    shape = SlotShape(trainer.workers, cpus, gpus, trainer.hang_s, trainer.recycle_after)
    fit = sum(_workers_on(node, shape) for node in resources.nodes + resources.to_come)
    if fit < trainer.workers:
        raise ClusterError(
            f"trainer: a trial needs {trainer.workers} x {cpus:g} CPUs and {gpus:g} GPUs, "
            f"the nodes have room for {fit}. "
            "Lower trainer.workers, trainer.cpus_per_worker or trainer.gpus_per_worker, or take larger nodes."
        )
    return shape


@dataclass(frozen=True, slots=True)
class Scorers:
    """Processes that score side by side. gpus: of each, 0 or 1; cpus: of each, and its threads."""

    count: int
    cpus: int
    gpus: int


def scorers(trainer: Trainer, resources: Resources) -> Scorers:
    """One for each GPU, or for each four CPUs; of these no more than trainer.slots would train on.

    trainer.gpus_per_worker: 0 leaves GPUs alone.
    """
    nodes = resources.nodes + resources.to_come
    with_gpus = [node for node in nodes if node[1] >= 1 and trainer.gpus_per_worker != 0]
    workers = trainer.workers * trainer.slots if trainer.slots else None
    if with_gpus:
        cpus = max(1, min(_SCORER_CPUS, *(int(cpus // int(gpus)) for cpus, gpus in with_gpus)))
        each = 1.0 if trainer.gpus_per_worker == "auto" else trainer.gpus_per_worker
        count = sum(int(gpus) for _, gpus in with_gpus)
        return Scorers(min(count, math.ceil(workers * each - 1e-6)) if workers else count, cpus, 1)
    cpus = max(1, min(_SCORER_CPUS, int(max(cpus for cpus, _ in nodes))))
    count = max(1, sum(int(cpus_of_node) // cpus for cpus_of_node, _ in nodes))
    if workers is None:
        return Scorers(count, cpus, 0)
    wished = trainer.cpus_per_worker
    most = max(1, int(workers * (_fair_cpus(0, trainer.workers, resources) if wished == "auto" else wished)))
    return Scorers(min(count, max(1, most // cpus)), min(cpus, most), 0)


def placement(shape: SlotShape, resources: Resources) -> str:
    """Where the workers of one slot go, for the header; empty for one worker."""
    if shape.workers == 1:
        return ""
    counts = [_workers_on(node, shape) for node in resources.nodes + resources.to_come]
    on_one = [count >= shape.workers for count in counts if count]
    if all(on_one):
        return ", on one node"
    return ", on one node where they fit, else spread over nodes" if any(on_one) else ", spread over nodes"


def slot_count(trainer: Trainer, shape: SlotShape, resources: Resources, grown: bool = False) -> int:
    """How many slots fit: now, or (`grown`) when the cluster has its maximum. At least 1, at most trainer.slots."""
    nodes = resources.nodes + (resources.to_come if grown else ())
    workers = sum(_workers_on(node, shape) for node in nodes)
    fits = max(1, workers // shape.workers)
    return min(fits, trainer.slots or fits)


def _fair_cpus(gpus: float, workers: int, resources: Resources) -> float:
    """With GPUs: a node's CPUs shared among its GPUs, at most CPUS_PER_GPU, by the node that has least of them.
    Without: a quarter of the largest node, for four trials."""
    every = resources.nodes + resources.to_come
    if gpus:
        shares = [cpus // max(_places(on_node, gpus), 1) for cpus, on_node in every if on_node >= min(gpus, 1.0)]
        return max(0.5, min(CPUS_PER_GPU, *shares))
    cpus, _ = max(every)
    return max(1.0, min(cpus // 4, cpus // workers))


def _workers_on(node: tuple[float, float], shape: SlotShape) -> int:
    by_cpu = int(node[0] / shape.cpus + 1e-6)
    return min(by_cpu, _places(node[1], shape.gpus)) if shape.gpus else by_cpu


def _places(on_node: float, gpus: float) -> int:
    """How many workers with so many GPUs, or such a fraction of one, a node has room for: what is left of a GPU is no
    use, for Ray gives a fraction from one GPU alone."""
    if gpus >= 1:
        return int(on_node / gpus + 1e-6)
    whole = int(on_node + 1e-6)
    return whole * int(1 / gpus + 1e-6) + int((on_node - whole) / gpus + 1e-6)


def _to_come(workers: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The nodes that the autoscaler of a cluster that `ray up` made may add to these workers; none elsewhere."""
    config = Path("~/ray_bootstrap_config.yaml").expanduser()
    if not config.exists():
        return
    from ruamel.yaml import YAML

    tree: Any = YAML(typ="safe").load(config)
    there = Counter(workers)
    left = tree.get("max_workers", 0) - len(workers)
    for name, group in tree.get("available_node_types", {}).items():
        kind = (float(group["resources"].get("CPU", 0)), float(group["resources"].get("GPU", 0)))
        most = 0 if name == tree["head_node_type"] else group.get("max_workers", 0) - there[kind]
        yield from [kind] * max(0, min(most, left))
