"""A search on three nodes that a real `ray up cluster/local.yaml` has made, while nodes and network are lost."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Nodes, living

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

SPACE = """
name: far
data: {name: shapes, validation: 200, train_images: 1400, test_images: 200}
model: fastnet
budget: {epochs: 6, batch_size: 100}
space: {optimizer: {sgd: {lr: {type: float, low: 0.02, high: 0.2, log: true}}}}
search: {trials: 2, scheduler: none, corruption_images: 50}
trainer: {workers: 2, checkpoint_s: 0}
finals: off
"""
SEARCH = ("env", "RAY_health_check_period_ms=1000", "python", "-m", "raycnn.tune")


class Search:
    """One on the head, with its run on the shared storage."""

    def __init__(self, nodes: Nodes, name: str, *options: str, run: Path | None = None) -> None:
        self._nodes, self.run = nodes, run or nodes.shared / name
        space = nodes.shared / "space.yaml"
        space.write_text(SPACE)
        self.output = nodes.shared / f"{name}-{time.monotonic_ns()}.txt"
        command = [*SEARCH, space, "--address", "auto", "--run", self.run, *options]
        self.process = nodes.start("head", *command, output=self.output)

    def until(self, condition: Callable[[], Any], timeout_s: float = 240) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.2)
        return value

    def epochs(self) -> int:
        """Trained by all trials."""
        return sum(log.read_text().count("\n") for log in self.run.glob("trials/*/metrics.jsonl"))

    def ended_well(self) -> None:
        assert self.process.wait(600) == 0, self.output.read_text()
        table = pd.read_parquet(self.run / "trials.parquet")
        assert table["state"].tolist() == ["COMPLETE"] * 2, self.output.read_text()
        for log in self.run.glob("trials/*/metrics.jsonl"):
            assert pd.read_json(log, lines=True)["epoch"].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module", autouse=True)
def cluster(nodes: Nodes, ray_up: Callable[[], None]) -> None:
    ray_up()


def test_the_doctor_finds_three_nodes_well(nodes: Nodes):
    command = ("python", "-m", "raycnn", "doctor", "--address", "auto", "--run", nodes.shared)
    said, _ = nodes.start("head", *command).communicate(timeout=300)
    assert "the same on 3 nodes" in said
    assert "shared by all" in said
    assert "on: 127.0.0.1:8265 answers 401 without it" in said
    assert "gloo, 3 ranks, socket, eth0" in said
    ill = [line for line in said.splitlines() if line.startswith("MEND")]
    busy = ("the link should give", "storage")  # three nodes on one machine and one disk
    assert not [line for line in ill if not any(word in line for word in busy)], said


def test_nodes_that_do_not_share_the_run_directory_train_and_score_all_the_same(nodes: Nodes):
    own = nodes.place / "head" / "tmp" / "own"
    finals = ("finals.top=1", "finals.seeds=1", "finals.score=[generated-c]", "finals.generated=[brightness]")
    sets = [word for one in ("finals={}", *finals) for word in ("--set", one)]
    search = Search(nodes, "own", *sets, run=Path("/tmp/own"))
    assert search.process.wait(600) == 0, search.output.read_text()
    said = search.output.read_text()
    assert "(not on 10.77.0." in said
    assert "whose checkpoints travel through Ray" in said
    table = pd.read_parquet(own / "trials.parquet")
    assert table["state"].tolist() == ["COMPLETE"] * 2, said
    assert len(list(own.glob("trials/*/checkpoint.pt"))) == 2
    assert len(set(pd.read_parquet(own / "robustness.parquet")["model"])) == 2


def test_a_trial_of_two_workers_spans_nodes(nodes: Nodes):
    search = Search(nodes, "plain")
    search.until(lambda: search.epochs() > 1)
    working: set[str] = set()
    deadline = time.monotonic() + 60
    while len(working) < 2 and time.monotonic() < deadline:
        working |= {node for node in ("head", "w1", "w2") if trains(nodes, node)}
    search.ended_well()
    assert len(working) == 2
    assert "3 CPUs on 3 nodes" in search.output.read_text()


def in_a_trial(nodes: Nodes, name: str, *options: str) -> tuple[Search, str]:
    """A search in the middle of a trial, and a node other than the head that trains it."""
    search = Search(nodes, name, *options)
    search.until(lambda: search.epochs() > 1)
    return search, search.until(lambda: next((node for node in ("w1", "w2") if trains(nodes, node)), ""))


def trains(nodes: Nodes, node: str) -> bool:
    """Whether a worker of a trial runs there."""
    return "ray::trial-" in nodes.run(node, "ps", "-eo", "args")


def id_of(nodes: Nodes, node: str) -> str:
    """Ray's id of it."""
    program = (
        "import logging, ray\n"
        "ray.init('auto', log_to_driver=False, logging_level=logging.ERROR)\n"
        f"print('id', *[n['NodeID'] for n in ray.nodes() if n['Alive'] and n['NodeManagerHostname'] == '{node}'])"
    )
    said = nodes.run("head", "env", "RAY_AUTH_MODE=token", "python", "-c", program)
    return next(line.split()[1] for line in said.splitlines() if line.startswith("id "))


@pytest.mark.slow
def test_a_partition_of_twelve_seconds_is_survived(nodes: Nodes):
    search, node = in_a_trial(nodes, "short")
    nodes.do("cut", node)
    time.sleep(12)
    nodes.do("join", node)
    search.ended_well()


def test_a_node_that_dies_in_a_trial_is_done_without(nodes: Nodes):
    search, node = in_a_trial(nodes, "loss")
    nodes.do("kill", node)
    search.ended_well()
    nodes.do("start", node)


@pytest.mark.slow
def test_slow_nodes_slow_the_search_and_end_nothing(nodes: Nodes):
    for node in ("w1", "w2"):
        nodes.do("slow", node, "50mbit")
    search, _ = in_a_trial(nodes, "slow")
    search.ended_well()
    for node in ("w1", "w2"):
        nodes.do("slow", node, "off")


@pytest.mark.slow
def test_a_node_that_goes_after_its_spot_notice_is_done_without(nodes: Nodes, ray_up: Callable[[], None]):
    ray_up()
    search, node = in_a_trial(nodes, "spot")
    notice = "--reason DRAIN_NODE_REASON_PREEMPTION --reason-message spot --deadline-remaining-seconds 15"
    nodes.run(
        "head", "env", "RAY_AUTH_MODE=token", "ray", "drain-node", "--node-id", id_of(nodes, node), *notice.split()
    )
    time.sleep(15)
    nodes.do("kill", node)
    search.ended_well()
    nodes.do("start", node)
    ray_up()


@pytest.mark.slow
def test_a_node_with_a_full_disk_gives_its_trials_to_the_others(nodes: Nodes):
    nodes.run("w1", "ray", "stop", "--force")
    gone(nodes, 2)
    small = "mkdir /run/small && mount -t tmpfs -o size=256k tmpfs /run/small && RAY_AUTH_MODE=token RAY_TMPDIR=/tmp "
    small += "TMPDIR=/run/small ray start --address=10.77.0.4:6379 --num-cpus=1 --object-store-memory=200000000"
    nodes.run("w1", "bash", "-c", small)
    search = Search(nodes, "full", "--set", "trainer.workers=1", "--trials", "8", run=Path("/tmp/full"))
    assert search.process.wait(600) == 0, search.output.read_text()
    said = search.output.read_text()
    assert re.search(r"slot \d rests: /run/small/\S+: No space left on device. Free space there \(on w1\)", said), said
    assert said.count("complete") == 8, said


def gone(nodes: Nodes, left: int) -> None:
    """Waits until the cluster has noticed that there are no more nodes."""
    deadline = time.monotonic() + 120
    while living(nodes) > left:
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.slow
def test_the_head_dies_and_the_same_command_goes_on(nodes: Nodes, ray_up: Callable[[], None]):
    ray_up()
    search = Search(nodes, "head")
    search.until(lambda: search.epochs() > 1)
    before = search.epochs()
    nodes.do("kill", "head")
    search.process.wait(60)
    nodes.do("start", "head")
    ray_up()
    again = Search(nodes, "head")
    again.ended_well()
    assert before > 0


@pytest.mark.slow
def test_a_partition_of_forty_seconds_costs_the_node_at_most(nodes: Nodes):
    search, node = in_a_trial(nodes, "long")
    nodes.do("cut", node)
    time.sleep(40)
    nodes.do("join", node)
    search.ended_well()


def test_ray_down_ends_all_nodes(nodes: Nodes):
    """Of own machines it stops the head; the workers' Ray ends when it has missed the head for a minute."""
    nodes.run("client", "ray", "down", "-y", "/tmp/local.yaml")
    assert "gcs_server" not in nodes.run("head", "ps", "-eo", "args")
    deadline = time.monotonic() + 150
    while left := [node for node in ("head", "w1", "w2") if "raylet/raylet" in nodes.run(node, "ps", "-eo", "args")]:
        assert time.monotonic() < deadline, left
        time.sleep(2)


def test_nothing_of_the_token_is_in_logs_or_reports(nodes: Nodes):
    token = (nodes.place / "client" / "root" / ".ray" / "auth_token").read_text()
    assert len(token) == 64
    told = [file for file in nodes.shared.rglob("*") if file.is_file() and token.encode() in file.read_bytes()]
    assert not told
