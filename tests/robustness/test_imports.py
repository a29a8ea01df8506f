"""Generators, metrics and archives serve processes that never load torch."""

import subprocess
import sys


def test_corruptions_metrics_and_archives_import_without_torch_and_ray():
    code = (
        "import sys; sys.modules.update(torch=None, ray=None, optuna=None)\n"
        "import raycnn.robustness.corruptions, raycnn.robustness.metrics, raycnn.robustness.archives"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
