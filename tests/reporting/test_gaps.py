"""What of a run is lost is told; of a whole one, and of one that is not scored yet, nothing is."""

import shutil

import pytest

from raycnn.reporting.gaps import gaps
from raycnn.reporting.page import write_report
from raycnn.reporting.results import read_run


@pytest.fixture(scope="module")
def small(make):
    return make()


def test_of_a_whole_run_nothing_is_lost(run_dir, make):
    assert gaps(read_run(run_dir)) == []
    assert gaps(read_run(make(scored=False))) == []


def test_finals_may_have_epochs_of_their_own(small, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small, run)
    text = (run / "spec.yaml").read_text()
    assert "score:" in text
    (run / "spec.yaml").write_text(text.replace("  score:", "  epochs: 10\n  score:"))
    assert all("has 9 of 10 epochs" in gap for gap in gaps(read_run(run)))
    assert len(gaps(read_run(run))) == 9


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("manifest.json", "manifest.json is missing"),
        ("robustness.parquet", "robustness.parquet is missing, though models were scored. Score again:"),
        ("outcomes/clean/clean.parquet", "outcomes/clean lacks what robustness.parquet has of clean. Score again:"),
        ("trials/0/metrics.jsonl", "trials/0/metrics.jsonl has 0 of 9 epochs"),
        ("finals/baseline/seed-0/metrics.jsonl", "finals/baseline/seed-0/metrics.jsonl has 0 of 9 epochs"),
    ],
)
def test_what_is_missing_is_told_where_the_numbers_are(small, tmp_path, lost, words):
    run = tmp_path / "run"
    shutil.copytree(small, run)
    (run / lost).unlink()
    told: list[str] = []
    page = write_report(run, told.append).read_text()
    assert len(told) == 1
    assert words in told[0]
    assert words.split(".", 1)[1] in page
