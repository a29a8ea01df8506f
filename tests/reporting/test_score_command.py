"""`raycnn score RUN`, which is how a scoring that failed is made good: what the search would have left is there."""

import re

import pytest

from raycnn.commands.score import score
from raycnn.search import cluster, scoring
from raycnn.search.finalists import Finalist, keep_finalists


@pytest.mark.parametrize("by_a_search", [False, True])
def test_scoring_a_run_by_hand_writes_its_report_and_a_search_writes_its_own(
    make, by_a_search: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = make()
    keep_finalists(run, [Finalist("baseline", 1, "finals/baseline/seed-0")])
    (run / "report.html").unlink(missing_ok=True)
    for name in ("prepare_environment", "connect", "disconnect"):
        monkeypatch.setattr(cluster, name, lambda *_: None)
    monkeypatch.setattr(scoring, "score_run", lambda run, *_, **__: run / "robustness.parquet")
    score(run, plain=by_a_search)
    assert (run / "report.html").exists() == (not by_a_search)
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"robustness\.parquet$" if by_a_search else r"report\.html$", last)
