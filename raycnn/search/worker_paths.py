"""Where Ray's workers look for modules. By itself Ray puts the driver's current folder before everything else there: a
run's own torch.py would be run in each of them."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import raycnn


class _Folders(list[str]):
    """A list that Ray cannot add to."""

    def extend(self, values: Iterable[str]) -> None:
        """Nothing: `ray.init` would add the current folder, and that of the script."""


def job_config() -> Any:
    """For ray.init: workers look where Python does, and where raycnn lies if it is not installed.

    A user's own model is found by `models.imported`, behind all else.
    """
    from ray.job_config import JobConfig

    config = JobConfig()
    home = Path(raycnn.__file__).resolve().parents[1]
    inside = any(Path(folder).resolve() == home for folder in sys.path if "-packages" in folder)
    if hasattr(config, "_py_driver_sys_path"):  # private; without it Ray does as it does by itself
        config._py_driver_sys_path = _Folders([] if inside else [str(home)])
    return config
