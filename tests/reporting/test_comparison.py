"""`raycnn compare`: models of several runs on the images that all were scored on."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raycnn.errors import DataError
from raycnn.reporting.comparison import compare_runs
from raycnn.reporting.text import measures_text
from raycnn.robustness.results import Results, Row, Scored
from raycnn.robustness.units import Unit


def scored_run(path: Path, models: dict[str, list[float]], images: str = "these", name: str = "clean") -> Path:
    """Clean images of the given errors, one for each seed."""
    path.mkdir(parents=True)
    results = Results(path)
    for model, errors in models.items():
        for seed, error in enumerate(errors):
            wrong = (np.random.default_rng(seed).permutation(500) < 500 * error).astype(np.float32)
            row = Row(model, seed, name, "clean", 0, 500, int(wrong.sum()), images=images)
            results.add(Unit(name, "clean", 500, ("clean",)), [Scored(row, {"wrong": wrong})])
    results.save()
    return path


def test_models_of_two_runs_are_set_against_the_first_runs(tmp_path):
    a = scored_run(tmp_path / "a", {"resnet": [0.1, 0.11, 0.12]})
    b = scored_run(tmp_path / "b", {"mixup": [0.2, 0.21, 0.22]})
    found = compare_runs([a, b])
    assert (found.reference, found.notes) == ("resnet", [])
    text = "\n".join(measures_text(found.measures, found.reference))
    assert "mixup   21.00 ± 1.00 %" in text
    assert "+10.00 (" in text
    assert "resnet is lower than mixup by 10.00 points (p < 0.001)." in text


def test_models_of_one_name_are_told_apart_by_their_runs(tmp_path):
    runs = [scored_run(tmp_path / name / "run", {"baseline": [0.1, 0.12]}) for name in ("a", "b")]
    (measure,) = compare_runs(runs).measures
    assert sorted(measure.samples) == ["a/run: baseline", "b/run: baseline"]


def test_what_was_scored_on_other_images_is_left_out_and_said(tmp_path):
    a = scored_run(tmp_path / "a", {"x": [0.1, 0.2]})
    b = scored_run(tmp_path / "b", {"y": [0.1, 0.2]}, images="others")
    with pytest.raises(DataError, match="no scores on the same images"):
        compare_runs([a, b])
    for run, name in ((a, "x"), (b, "y")):
        extra = scored_run(tmp_path / f"extra-{name}", {name: [0.3, 0.3]}, name="cifar-10-c")
        merged = Results(run)
        merged.rows += Results(extra).rows
        merged.save()
        shutil.copytree(extra / "outcomes" / "cifar-10-c", run / "outcomes" / "cifar-10-c")
    found = compare_runs([a, b])
    assert [measure.kind for measure in found.measures] == ["subset"]
    assert found.notes == ["Left out, as not all runs were scored on the same images: clean images."]


def test_single_models_can_be_chosen_and_wrong_ones_are_refused(tmp_path):
    a = scored_run(tmp_path / "a", {"x": [0.1], "y": [0.2], "z": [0.3]})
    (measure,) = compare_runs([a], ["x", "z"]).measures
    assert list(measure.samples) == ["x", "z"]
    with pytest.raises(DataError, match=r"--model w: there is no such model. Choose from x, y, z\."):
        compare_runs([a], ["w"])


def test_a_whole_run_is_compared_by_the_command_in_words(run_dir):
    command = [sys.executable, "-m", "raycnn", "compare", str(run_dir)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "CIFAR-10-C: error, mean over the 15 test corruptions  [cifar-10-c/mce15, 1,000 images]" in text
    assert "cifar-10-p/mfp9" in text
    assert "is lower than baseline by" in text
    assert "\nLeft out" not in text


def test_a_run_without_scores_is_refused_with_status_2(tmp_path):
    command = [sys.executable, "-m", "raycnn", "compare", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nothing was scored there" in done.stderr
