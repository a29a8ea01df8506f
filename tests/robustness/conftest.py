"""Where the real images and the authors' outputs are: the folder that RAYCNN_TEST_DATA names."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Path]:
    """reference(name): a file or folder of the reference data. Skips the test where there is none."""

    def path_of(name: str) -> Path:
        root = os.environ.get("RAYCNN_TEST_DATA")
        if not root:
            pytest.skip("needs the reference data: set RAYCNN_TEST_DATA to its folder")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"needs {path}, which is not there")
        return path

    return path_of
