"""Made-up runs that the tests of the report share. They are read only: who changes one copies it."""

from pathlib import Path
from typing import Any

import pytest
from synthetic import Wish, make_run

from raycnn.reporting.page import write_report


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory) -> Path:
    """40 trials on two objectives; baseline and two finalists x 3 seeds, scored on everything; with its report."""
    run = make_run(tmp_path_factory.mktemp("full") / "run")
    write_report(run)
    return run


@pytest.fixture(scope="session")
def make(tmp_path_factory):
    """A small run as wished."""

    def make(**wishes: Any) -> Path:
        return make_run(tmp_path_factory.mktemp("small") / "run", Wish(trials=12, epochs=9, **wishes))

    return make
