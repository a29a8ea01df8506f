"""Run directories are read as they are: whole, unfinished, damaged."""

import json
import shutil
from datetime import UTC, datetime

import pandas as pd
import pytest

from raycnn.errors import DataError, SpecError
from raycnn.reporting.results import read_curve, read_run


def test_a_whole_run_is_read(run_dir):
    run = read_run(run_dir)
    table = pd.read_parquet(run_dir / "trials.parquet")
    assert [trial.number for trial in run.trials] == list(range(40))
    assert len(run.of_state("PRUNED")) == (table.state == "PRUNED").sum()
    assert run.trials[0].name == "baseline"
    assert run.trials[7].name == "trial-007"
    assert run.trials[7].reason.startswith("epoch 4")
    assert run.trials[0].parameters == {}
    assert set(run.curves) == set(range(40))
    assert len(run.finals) == 9
    assert run.manifest.started == datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
    assert run.manifest.git == "d17cc19f0a3b, with changes"


def test_whole_numbers_stay_whole_though_their_column_has_gaps(run_dir):
    sizes = [trial.parameters.get("cutout.size_px") for trial in read_run(run_dir).trials]
    assert None in sizes
    assert all(type(size) is int for size in sizes if size is not None)


def test_an_epoch_that_was_trained_twice_counts_once_and_a_torn_line_not_at_all(tmp_path):
    lines = [{"epoch": 1, "train_loss": 2.0, "metrics": {"val/clean_error": 0.5}}]
    lines += [{"epoch": 2, "train_loss": 9.0, "metrics": {}}, {"epoch": 2, "train_loss": 1.0, "metrics": {"a": 0.25}}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 3, "train_lo')
    curve = read_curve(path)
    assert (curve.epochs, curve.train_loss) == ((1, 2), (2.0, 1.0))
    assert curve.metrics == {"val/clean_error": ((1, 0.5),), "a": ((2, 0.25),)}


def test_what_is_not_there_yet_is_empty(run_dir, tmp_path):
    shutil.copy(run_dir / "spec.yaml", tmp_path)
    run = read_run(tmp_path)
    assert (run.trials, run.curves, run.finals, run.rows, run.outcomes) == ((), {}, {}, None, {})
    assert run.manifest.started is None


def test_a_table_without_rows_is_no_trial(run_dir, tmp_path):
    shutil.copy(run_dir / "spec.yaml", tmp_path)
    pd.DataFrame([]).to_parquet(tmp_path / "trials.parquet")
    assert read_run(tmp_path).trials == ()


@pytest.mark.parametrize("name", ["trials.parquet", "robustness.parquet", "manifest.json"])
def test_a_damaged_file_is_named_on_one_line(run_dir, tmp_path, name):
    shutil.copy(run_dir / "spec.yaml", tmp_path)
    (tmp_path / name).write_text("{ nonsense")
    with pytest.raises(DataError, match=name) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"spec\.yaml"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "verify", "verified", "unofficial"),
    [
        ("cifar10", True, None, False),
        ("cifar10", False, None, True),
        ("cifar10", False, True, False),
        ("cifar10", True, False, True),
        ("shapes", False, False, False),
    ],
)
def test_a_copy_is_unofficial_if_its_checksums_were_not_compared(run_dir, tmp_path, name, verify, verified, unofficial):
    text = (run_dir / "spec.yaml").read_text().replace("name: shapes", f"name: {name}")
    (tmp_path / "spec.yaml").write_text(text.replace("verify: true", f"verify: {str(verify).lower()}"))
    (tmp_path / "manifest.json").write_text(json.dumps({"data": {"verified": verified}}))
    assert read_run(tmp_path).unofficial is unofficial
