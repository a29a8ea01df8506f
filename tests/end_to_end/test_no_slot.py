"""A search that nobody can train for, from the start or suddenly: it ends with one line, and its trials wait."""

import os
import signal
from pathlib import Path

import pytest
import torch
from command import Search
from optuna.trial import TrialState


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch can use the GPU here")
def test_a_gpu_that_pytorch_cannot_use_ends_the_search_and_the_mend_it_names_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')  # Ray counts one
    search = Search(tmp_path, "--trials", "1", "--set", "finals=off")
    assert search.wait() == 2, search.text()
    last = search.text().splitlines()[-1]
    assert "Ray counts a GPU, but PyTorch" in last
    assert "write trainer.gpus_per_worker: 0 to train on CPUs" in last
    assert not [trial for trial in search.trials() if trial.state.is_finished()]
    again = Search(tmp_path, "--trials", "1", "--set", "finals=off", "--set", "trainer.gpus_per_worker=0")
    assert again.wait() == 0, again.text()
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hub_that_is_killed_ends_the_search_with_one_line_and_the_same_command_goes_on(tmp_path: Path):
    search = Search(tmp_path, "--trials", "2", "--set", "finals=off")
    search.until(lambda: search.epochs(0))
    for hub in search.until(lambda: search.processes("ray::hub-") or search.processes("ray::Hub")):
        os.kill(hub, signal.SIGKILL)
    assert search.wait() == 2, search.text()
    assert "has died" in search.text().splitlines()[-1]
    assert "Traceback" not in search.text()
    assert not [trial for trial in search.trials() if trial.state == TrialState.FAIL]
    again = Search(tmp_path, "--trials", "2", "--set", "finals=off")
    assert again.wait() == 0, again.text()
    assert [trial.state for trial in again.trials()] == [TrialState.COMPLETE] * 2
