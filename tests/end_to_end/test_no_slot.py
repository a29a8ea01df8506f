"""A search none of whose slots can start: it ends soon, with one line, and what it asked for waits."""

from pathlib import Path

import pytest
import torch
from command import Search
from optuna.trial import TrialState


@pytest.mark.slow
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
