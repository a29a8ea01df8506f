"""What is said while finals train side by side, and where they cannot be scored."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raycnn.search import finals
from raycnn.search.finals import Final, no_finals, train_finals
from raycnn.search.observer import Silent
from raycnn.search.worker import EpochReport
from raycnn.slots.messages import Outcome, Report
from raycnn.spec.reading import search_from_text
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec


def test_finals_that_are_lost_without_a_failed_training_are_told_in_one_line():
    said = no_finals({"trial-3", "trial-1"}, [])
    assert said.startswith("finals: trial-1, trial-3: trained, but")
    assert "\n" not in said


def test_the_first_failed_training_is_the_reason():
    assert no_finals({"trial-3"}, ["trial-3 seed-0: no memory"]).endswith(
        "1 training failed, the first: trial-3 seed-0: no memory"
    )


def test_finals_that_train_side_by_side_are_told_apart_by_model_and_seed(tmp_path: Path, monkeypatch):
    space = "{optimizer: {sgd: {lr: 0.1}}}"
    spec = search_from_text(
        f"{{name: a, data: {{name: shapes}}, model: fastnet, budget: {{epochs: 3, batch_size: 8}}, space: {space}}}",
        "a.yaml",
    )
    training = TrialSpec(model="fastnet", epochs=3, batch_size=8, optimizer=Optimizer(sgd=Sgd(lr=0.1)))
    planned = [
        Final(model, 7, training, tmp_path / model / f"seed-{index}")
        for model, index in (("baseline", 0), ("trial-002", 1))
    ]
    both_train = threading.Barrier(2, timeout=30)

    def run_task(hub, task, on_report):
        on_report(Report(2, EpochReport(None, (), 0.0)))
        both_train.wait()
        return Outcome("failed" if task.name == "baseline seed-0" else "done", "no memory")

    seen: list[Mapping[str, tuple[int, int]]] = []

    class Watching(Silent):
        def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None:
            seen.append(running)

    monkeypatch.setattr(finals, "run_task", run_task)
    with ThreadPoolExecutor(2) as threads:
        train_finals(planned, spec, None, Watching(), threads)
    assert {"baseline seed-0": (2, 3), "trial-002 seed-1": (2, 3)} in seen
    assert seen[-1] == {}
