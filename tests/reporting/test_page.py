"""report.html as text; test_browser.py opens it."""

import re
import shutil

import pandas as pd
import pytest

from raycnn.reporting.page import write_report

SECTIONS = [
    *("answer", "setup", "trials", "history", "front", "curves", "importance", "slices"),
    *("corruptions", "perturbations", "fgsm", "samples", "files"),
]


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(run_dir) -> str:
    return (run_dir / "report.html").read_text(encoding="utf-8")


def test_every_section_is_there(page):
    assert re.findall(r'<section id="([a-z]+)"', page) == SECTIONS


def test_plotly_is_embedded_once_and_nothing_is_fetched(page):
    assert page.count("* plotly.js v") == 1
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", without_scripts(page))
    assert "url(" not in without_scripts(page)


def test_errors_are_percent(page):
    assert re.search(r"\d+\.\d\d\xa0±\xa0\d\.\d\d\xa0%", page)
    assert "test/mce15" in page
    assert "test/mce19" in page


def test_nothing_but_the_report_is_left_behind(run_dir, tmp_path):
    shutil.copy(run_dir / "spec.yaml", tmp_path)
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "spec.yaml"]


def test_a_run_that_has_hardly_begun_has_a_report(run_dir, tmp_path):
    shutil.copy(run_dir / "spec.yaml", tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<section id="([a-z]+)"', page) == SECTIONS
    assert "No trial has finished yet." in page
    assert "Too few trials of the search have run to their end" in page
    assert "The finals are not scored yet." in page


def test_finals_that_are_off_are_called_off(make):
    page = write_report(make(finals=False)).read_text(encoding="utf-8")
    assert page.count("Finals are off, so") == 4  # the answer and three sections


def test_one_objective_has_a_ranking_for_a_front(make):
    page = write_report(make(objectives=("val/clean_error",))).read_text(encoding="utf-8")
    assert "<h2>The best</h2>" in page
    assert 'data-figure="ranking"' in page
    assert "switch-slice-" not in page


def test_what_a_user_wrote_is_escaped(run_dir, page, tmp_path):
    evil = "</script><script>alert(1)</script>"
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    table = pd.read_parquet(run / "trials.parquet")
    table.loc[table.state == "FAIL", "reason"] = evil
    table.to_parquet(run / "trials.parquet")
    manifest = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(manifest.replace("python -m raycnn.tune", evil))
    scores = pd.read_parquet(run / "robustness.parquet")
    scores["model"] = scores["model"].replace("trial-008", evil)
    scores["name"] = scores["name"].replace("fog", evil)
    scores.to_parquet(run / "robustness.parquet")
    changed = write_report(run).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in changed
    assert "<script>alert" not in changed
    assert changed.count("<script") == page.count("<script")


def test_a_model_with_missing_scores_is_named(run_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    scores = pd.read_parquet(run / "robustness.parquet")
    gone = (scores.model == "trial-008") & (scores.seed == 2) & (scores.name == "fog")
    scores[~gone].to_parquet(run / "robustness.parquet")
    assert "left out above: trial-008." in write_report(run).read_text(encoding="utf-8")
