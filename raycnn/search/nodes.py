"""The same question to every node of the cluster, and which of them share a directory."""

import os
import platform
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raycnn.errors import ClusterError

PATIENCE_S = 60.0


def on_every_node(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What `function` gives on each living node, by the node's name; an exception where it raised one.

    It runs at once everywhere, whatever else the nodes are busy with.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {
        name: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
        for name, node in living_nodes().items()
    }
    answers: dict[str, Any] = {}
    for name, answer in asked.items():
        try:
            answers[name] = ray.get(answer, timeout=PATIENCE_S)
        except RayTaskError as error:
            answers[name] = error.cause
        except RayError as error:
            answers[name] = error
    return answers


def living_nodes() -> dict[str, str]:
    """Ray's id of each node, by its address; the head's first."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    nodes.sort(key=lambda node: "node:__internal_head__" not in node["Resources"])
    twice = len({node["NodeManagerAddress"] for node in nodes}) < len(nodes)  # several on one machine, as in tests
    ids = [node["NodeID"] for node in nodes]
    names = [node["NodeManagerAddress"] + (f" ({node['NodeID'][:6]})" if twice else "") for node in nodes]
    return dict(zip(names, ids, strict=True))


def gpus_by_node() -> dict[str, float]:
    """How many GPUs Ray counts on each node, by its name."""
    import ray

    counts = {node["NodeID"]: node["Resources"].get("GPU", 0.0) for node in ray.nodes()}
    return {name: counts.get(node, 0.0) for name, node in living_nodes().items()}


def nodes_without(run: Path) -> dict[str, str]:
    """The nodes that do not read and write the same directory `run`, and why.

    Raises ClusterError if this one cannot write there.
    """
    word = uuid.uuid4().hex
    probe = run / f"probe-{word}"
    try:
        probe.write_text(word, encoding="utf-8")
        answers = on_every_node(_answer_probe, str(probe), word)
    except OSError as error:
        raise ClusterError(f"{run}: cannot be written ({error.strerror}). Give another --run.") from error
    finally:
        for left in run.glob(f"{probe.name}*"):
            left.unlink(missing_ok=True)
    return {name: str(answer) for name, answer in answers.items() if answer is not None}


def _answer_probe(path: str, word: str) -> str | None:
    """What is wrong on this node."""
    probe = Path(path)
    try:
        if probe.read_text(encoding="utf-8") != word:
            return "it holds other files there"
        own = probe.with_name(f"{probe.name}-{platform.node()}-{os.getpid()}")
        own.write_text(word, encoding="utf-8")
        own.unlink()
    except FileNotFoundError:
        return "the directory or the driver's file is not there"
    except OSError as error:
        return error.strerror or str(error)
    return None
