"""One Ray for all tests of this folder, and pools of slots on it."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray with two CPUs, quiet. It counts a GPU, also where there is none."""
    from raycnn.search.cluster import SETTINGS

    os.environ.update(SETTINGS)
    import ray
    import workloads
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(workloads)
    ray.init("local", num_cpus=2, num_gpus=1, log_to_driver=False, logging_level=logging.ERROR)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def two_ranks(ray_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A prepared pool of one slot with two gloo ranks."""
    from workloads import WORKLOAD

    from raycnn.slots.pool import SlotPool, SlotShape

    shape = SlotShape(workers=2, cpus=0.9, hang_s=20)
    with SlotPool(WORKLOAD, shape, tmp_path_factory.mktemp("slots"), lease_s=8) as pool:
        pool.grow(1)
        pool.post("ready")
        yield pool
