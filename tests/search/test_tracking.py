"""What MLflow and Weights & Biases are told, without network."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raycnn.errors import ClusterError
from raycnn.search import tracking
from raycnn.search.tracking import Tracking, check_trackers
from raycnn.spec.reading import read_search
from raycnn.spec.search import SearchSpec

SPACE = """
name: tracked
data: {name: shapes}
model: fastnet
budget: {epochs: 2, batch_size: 256}
space: {optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}}}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> SearchSpec:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return read_search(file, ["tracking=[mlflow, wandb]"])


def trial(number: int, outcome: str = "stopped") -> Any:
    config = {"number": number, "spec": "{}", "optimizer.sgd.lr": 0.1}
    return SimpleNamespace(config=config, last_result={"outcome": outcome})


def result(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "val/clean_error": 1 / epoch, "train/loss": 2.0, "lr": 0.1, "images": 10, "note": "n"}


def no_warning(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_mlflow_has_a_run_for_each_trial_and_goes_on_with_it_after_a_resume(
    spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = Tracking("mlflow", tmp_path, spec, no_warning)
    for number in (3, 4):
        first.log_trial_start(trial(number))
        first.log_trial_result(1, trial(number), result(1))
    first.log_trial_end(trial(4, "failed"))
    first.close()  # interrupted; trial 3 goes on later
    second = Tracking("mlflow", tmp_path, spec, no_warning)
    second.log_trial_start(trial(3))
    second.log_trial_result(1, trial(3), result(2))
    second.log_trial_result(2, trial(3), {"outcome": "done", "epoch": 2, "train/seconds": 1.0})
    second.log_trial_end(trial(3, "done"))
    second.close()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tracked")
    assert experiment
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"trial-003", "trial-004"}
    assert runs["trial-003"].info.status == "FINISHED"
    assert runs["trial-004"].info.status == "FAILED"
    assert runs["trial-003"].data.tags["raycnn.state"] == "COMPLETE"
    assert runs["trial-003"].data.params == {"optimizer.sgd.lr": "0.1"}
    assert runs["trial-003"].data.metrics == {"val/clean_error": 0.5, "train/loss": 2.0, "lr": 0.1}
    history = client.get_metric_history(runs["trial-003"].info.run_id, "val/clean_error")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]


def test_wandb_has_a_run_for_each_trial_several_at_a_time(
    spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(spec)
    tracker = Tracking("wandb", tmp_path, spec, no_warning)
    for number in (3, 4):
        tracker.log_trial_start(trial(number))
    for number in (3, 4):
        tracker.log_trial_result(1, trial(number), result(1))
        tracker.log_trial_end(trial(number, "done"))
    tracker.close()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.stem[-9:] for file in files] == ["trial-003", "trial-004"]
    deadline = time.monotonic() + 60  # W&B's own process may write a little after it has said that it is done
    for file in files:
        for what in (b"val/clean_error", b"optimizer.sgd.lr", b"COMPLETE"):
            while what not in file.read_bytes():
                assert time.monotonic() < deadline, what
                time.sleep(0.1)


def test_a_tracker_that_fails_is_left_alone_with_one_warning(
    spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def begin(self, number: int, parameters: Any) -> None:
            raise ConnectionError("no\nroute")

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", lambda run, spec: Broken())  # pyright: ignore
    said: list[str] = []
    tracker = Tracking("mlflow", tmp_path, spec, said.append)
    for number in range(3):
        tracker.log_trial_start(trial(number))
        tracker.log_trial_end(trial(number))
    tracker.close()
    assert said == ["tracking: mlflow is told nothing more (no route)"]


def test_a_tracker_that_hangs_does_not_hold_the_search(
    spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import threading

    free = threading.Event()

    class Hanging:
        def begin(self, number: int, parameters: Any) -> None:
            free.wait()

    monkeypatch.setitem(tracking.TRACKERS, "mlflow", lambda run, spec: Hanging())  # pyright: ignore
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    said: list[str] = []
    tracker = Tracking("mlflow", tmp_path, spec, said.append)
    tracker.log_trial_start(trial(0))
    tracker.close()
    free.set()
    assert len(said) == 1
    assert "did not answer" in said[0]


def test_what_is_not_installed_or_has_no_key_is_refused_before_the_search(
    spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="wandb login"):
        check_trackers(spec)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else object())
    with pytest.raises(ClusterError, match="pip install mlflow"):
        check_trackers(spec)
