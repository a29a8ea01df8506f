"""What a trial trained again is held against."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from raycnn.errors import DataError
from raycnn.search import reproduction
from raycnn.training.log import EpochLog, EpochRecord


def test_a_log_that_has_lost_its_last_epochs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = tmp_path / "trials" / "3"
    directory.mkdir(parents=True)
    log = EpochLog(directory)
    for epoch in (1, 2, 3):
        log.write(EpochRecord(epoch, 100, 0.1, 1.0, {"val/clean_error": 0.5}, 1.0, 1.0))
    trial = SimpleNamespace(number=3, user_attrs={"spec": "{}", "epochs": 3})
    monkeypatch.setattr(reproduction, "read_trials", lambda run: [trial])
    path = directory / "metrics.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    with pytest.raises(DataError, match="lacks epochs"):
        reproduction._trial(tmp_path, 3)
