"""report.html as text; test_browser.py opens it."""

import re
import shutil

import pandas as pd
import pytest

from raycnn.reporting.page import write_report

SECTIONS = [
    *("answer", "setup", "trials", "history", "front", "curves", "importance", "slices"),
    *("corruptions", "perturbations", "attacks", "samples", "files"),
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
    for path in (run / "robustness.parquet", *run.glob("outcomes/*/*.parquet")):
        scores = pd.read_parquet(path)
        scores["model"] = scores["model"].replace("trial-008", evil)
        scores["name"] = scores["name"].replace("fog", evil)
        scores.to_parquet(path)
    changed = write_report(run).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in changed
    assert "<script>alert" not in changed
    assert changed.count("<script") == page.count("<script")


def test_a_model_with_missing_scores_is_named(run_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    fog = run / "outcomes" / "cifar-10-c" / "fog.parquet"
    scores = pd.read_parquet(fog)
    scores[(scores.model != "trial-008") | (scores.seed != 2)].to_parquet(fog)
    assert "left out above: trial-008." in write_report(run).read_text(encoding="utf-8")


def test_every_pair_of_models_has_a_verdict_in_words(page):
    (verdicts,) = re.findall(r"Which differences are real[^<]*</summary>\s*<ul>(.*?)</ul>", page, flags=re.DOTALL)
    (clean,) = re.findall(r"<li><b>test images: error\.</b>(.*?)</li>", verdicts, flags=re.DOTALL)
    assert clean.count("trial-") == 4  # three pairs of a baseline and two finalists
    assert "p = " in clean or "p &lt; " in clean


def test_the_mean_without_spatter_stands_there_where_spatter_was_tuned_on(page, make):
    assert "test/mfp9" in page
    assert "test/mfp9" not in write_report(make(objectives=("val/clean_error",))).read_text(encoding="utf-8")


def test_numbers_in_units_of_the_baseline_are_1_for_it(page):
    assert "cifar-10-c/mce_relative" in page
    assert "by definition" in page
