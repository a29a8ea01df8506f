"""How many trials fit at once, and what is refused."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from raycnn.errors import ClusterError, SpecError
from raycnn.search import gpus
from raycnn.search.gpus import cards_here, gpus_in_words
from raycnn.search.resources import (
    Resources,
    expecting,
    local_resources,
    placement,
    resources_elsewhere,
    scorers,
    slot_count,
    slot_shape,
)
from raycnn.spec.search import Trainer

LAPTOP = Resources(((2.0, 0.0),))
ONE_GPU = Resources(((16.0, 1.0),))
EIGHT_GPUS = Resources(((64.0, 8.0),))
TWO_NODES = Resources(((32.0, 4.0), (32.0, 4.0)))
GROWING = Resources(((8.0, 0.0),), ((4.0, 1.0),) * 8)


@pytest.mark.parametrize(
    ("trainer", "resources", "workers", "cpus", "gpus", "slots"),
    [
        (Trainer(), LAPTOP, 1, 1.0, 0.0, 2),
        (Trainer(workers=2), LAPTOP, 2, 1.0, 0.0, 1),
        (Trainer(), ONE_GPU, 1, 8.0, 1.0, 1),
        (Trainer(gpus_per_worker=0.25), ONE_GPU, 1, 4.0, 0.25, 4),
        (Trainer(gpus_per_worker=0.4), EIGHT_GPUS, 1, 4.0, 0.4, 16),
        (Trainer(gpus_per_worker=0.4), TWO_NODES, 1, 4.0, 0.4, 16),
        (Trainer(gpus_per_worker=0.34), ONE_GPU, 1, 8.0, 0.34, 2),
        (Trainer(gpus_per_worker=1 / 3), ONE_GPU, 1, 5.0, 1 / 3, 3),
        (Trainer(gpus_per_worker=0.7), EIGHT_GPUS, 1, 8.0, 0.7, 8),
        (Trainer(cpus_per_worker=3, gpus_per_worker=0), Resources(((8.0, 0.0), (8.0, 0.0))), 1, 3.0, 0.0, 4),
        (Trainer(), EIGHT_GPUS, 1, 8.0, 1.0, 8),
        (Trainer(workers=4, gpus_per_worker=1), EIGHT_GPUS, 4, 8.0, 1.0, 2),
        (Trainer(workers=4, gpus_per_worker=1), TWO_NODES, 4, 8.0, 1.0, 2),
        (Trainer(slots=3), EIGHT_GPUS, 1, 8.0, 1.0, 3),
        (Trainer(gpus_per_worker=0), EIGHT_GPUS, 1, 16.0, 0.0, 4),
    ],
)
def test_slots_fill_the_cluster(trainer, resources, workers, cpus, gpus, slots):
    shape = slot_shape(trainer, resources)
    assert (shape.workers, shape.cpus, shape.gpus) == (workers, cpus, gpus)
    assert slot_count(trainer, shape, resources) == slots


@pytest.mark.parametrize(
    ("trainer", "resources", "count", "cpus", "gpus"),
    [
        (Trainer(), LAPTOP, 1, 2, 0),
        (Trainer(), Resources(((16.0, 0.0),)), 4, 4, 0),
        (Trainer(), ONE_GPU, 1, 4, 1),
        (Trainer(), Resources(((16.0, 8.0),)), 8, 2, 1),
        (Trainer(), Resources(((4.0, 8.0),)), 8, 1, 1),
        (Trainer(gpus_per_worker=0), EIGHT_GPUS, 16, 4, 0),
        (Trainer(slots=2), EIGHT_GPUS, 2, 4, 1),
        (Trainer(slots=2, workers=2), TWO_NODES, 4, 4, 1),
        (Trainer(slots=4, gpus_per_worker=0.25), EIGHT_GPUS, 1, 4, 1),
        (Trainer(slots=3, gpus_per_worker=1 / 3), EIGHT_GPUS, 1, 4, 1),
        (Trainer(slots=20), EIGHT_GPUS, 8, 4, 1),
        (Trainer(slots=1), Resources(((16.0, 0.0),)), 1, 4, 0),
        (Trainer(slots=1, cpus_per_worker=2), Resources(((16.0, 0.0),)), 1, 2, 0),
        (Trainer(slots=2, gpus_per_worker=1), LAPTOP, 1, 2, 0),  # trained elsewhere
        (Trainer(), GROWING, 8, 4, 1),
    ],
)
def test_scoring_takes_what_there_is_but_no_more_than_the_slots_that_were_wished(trainer, resources, count, cpus, gpus):
    found = scorers(trainer, resources)
    assert (found.count, found.cpus, found.gpus) == (count, cpus, gpus)


def test_slots_of_a_cluster_that_grows_follow_its_maximum():
    shape = slot_shape(Trainer(), GROWING)
    assert (shape.cpus, shape.gpus) == (4.0, 1.0), "as the nodes to come have them, not the head"
    assert slot_count(Trainer(), shape, GROWING) == 1
    assert slot_count(Trainer(), shape, GROWING, grown=True) == 8
    assert GROWING.words() == "8 CPUs, up to 40 CPUs and 8 GPUs as nodes come"


def test_slots_that_are_wished_are_waited_for_where_the_cluster_does_not_tell_how_far_it_grows():
    head = Resources(((4.0, 0.0),))
    wish = Trainer(slots=8, workers=2, gpus_per_worker=1, cpus_per_worker=7)
    grown = expecting(wish, head)
    assert grown.to_come == ((14.0, 2.0),) * 8
    assert slot_count(wish, slot_shape(wish, grown), grown, grown=True) == 8
    assert len(expecting(wish, Resources(((4.0, 0.0), (28.0, 4.0)))).to_come) == 6, "two fit"
    assert expecting(Trainer(slots=8), head) == head, "nobody said what a slot needs"


@pytest.mark.parametrize(
    ("workers", "resources", "words"),
    [
        (1, TWO_NODES, ""),
        (4, TWO_NODES, ", on one node"),
        (8, TWO_NODES, ", spread over nodes"),
        (2, Resources(((8.0, 1.0), (16.0, 2.0))), ", on one node where they fit, else spread over nodes"),
    ],
)
def test_where_the_workers_of_a_slot_go(workers, resources, words):
    assert placement(slot_shape(Trainer(workers=workers), resources), resources) == words


@pytest.mark.parametrize(
    ("trainer", "resources"),
    [
        (Trainer(workers=4, gpus_per_worker=1), ONE_GPU),
        (Trainer(gpus_per_worker=1), LAPTOP),
        (Trainer(workers=3, gpus_per_worker=0), LAPTOP),
        (Trainer(cpus_per_worker=4), LAPTOP),
    ],
)
def test_what_can_never_fit_is_refused_with_the_numbers_and_the_mend(trainer, resources):
    with pytest.raises(ClusterError, match=r"a trial needs \d x [\d.]+ [CG]PUs, the cluster has [\d.]+\. Lower"):
        slot_shape(trainer, resources)


def test_a_worker_that_fits_no_node_is_refused_though_all_nodes_together_have_enough():
    small = Resources(((4.0, 0.0),) * 4)
    with pytest.raises(ClusterError, match="1 x 8 CPUs and 0 GPUs, the nodes have room for 0"):
        slot_shape(Trainer(cpus_per_worker=8), small)
    assert slot_shape(Trainer(workers=4, cpus_per_worker=4), small).workers == 4


def test_slots_of_all_workers_leave_the_forwarders_of_trials_their_share():
    shape = slot_shape(Trainer(), EIGHT_GPUS)
    slots = slot_count(Trainer(), shape, EIGHT_GPUS)
    reserved = slots * shape.workers * shape.resources()["CPU"] + slots * 0.001
    assert reserved <= EIGHT_GPUS.cpus


UUID, MIG = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 4), ("", 0), ("NoDevFiles", 0), ("2", 1), ("0,3", 2), (UUID, 1), (f"{MIG},{MIG}", 2), ("0,1,2,3,4,5", 4)],
)
def test_gpus_of_this_machine_are_counted_as_ray_counts_them(monkeypatch, visible, count):
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    monkeypatch.setattr(NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", staticmethod(lambda: 4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_resources().gpus == count
    assert ResourceAndLabelSpec._get_current_node_accelerator(None, {})[1] == count


class Nvml:
    """As NVIDIA's library, of two cards; some of its answers are bytes."""

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: b"580.65",
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetHandleByUUID": lambda uuid: {UUID.encode(): 1}[uuid],
            "nvmlDeviceGetName": lambda card: ["NVIDIA H200", b"NVIDIA L4"][card],
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=[150_000_000_000, 24 * 2**30][card]),
        }
        return answers[name]


@pytest.mark.parametrize(
    ("visible", "cards"),
    [
        (None, ["NVIDIA H200 (139.7 GiB, driver 580.65)", "NVIDIA L4 (24.0 GiB, driver 580.65)"]),
        ("1", ["NVIDIA L4 (24.0 GiB, driver 580.65)"]),
        (UUID, ["NVIDIA L4 (24.0 GiB, driver 580.65)"]),
        ("GPU-unknown", []),
    ],
)
def test_cards_are_named_with_memory_and_driver(monkeypatch, visible, cards):
    import ray._private.thirdparty as thirdparty

    monkeypatch.setattr(thirdparty, "pynvml", Nvml(), raising=False)
    monkeypatch.setitem(sys.modules, "ray._private.thirdparty.pynvml", Nvml())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cards_here() == cards


def test_the_manifest_counts_cards_of_a_kind_and_tells_a_number_where_no_driver_does(monkeypatch):
    answers: dict[str, Any] = {"a": ["H200"] * 4, "b": ["H200"] * 4 + ["L4"], "c": [], "d": OSError("gone")}
    monkeypatch.setattr(gpus, "on_every_node", lambda _: answers)
    assert gpus_in_words(EIGHT_GPUS) == ["8 x H200", "1 x L4"]
    answers.clear()
    assert gpus_in_words(EIGHT_GPUS) == ["8 GPUs"]
    assert gpus_in_words(LAPTOP) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8xGPU", Resources(((64.0, 8.0),))),
        ("4x8xGPU", Resources(((64.0, 8.0),) * 4)),
        ("16xCPU", Resources(((16.0, 0.0),))),
        ("2x4xcpus", Resources(((4.0, 0.0),) * 2)),
    ],
)
def test_machines_that_are_not_here_can_be_planned_for(text: str, expected: Resources):
    assert resources_elsewhere(text) == expected


@pytest.mark.parametrize(
    "text", ["", "8", "GPU", "8GPU", "0xGPU", "8x0xGPU", "-1xCPU", "8xTPU", "1x2x3xGPU", "99999xGPU"]
)
def test_machines_that_are_not_written_as_such_are_refused(text: str):
    with pytest.raises(SpecError, match=r"--for .* Write 8xGPU, 4x8xGPU"):
        resources_elsewhere(text)
