"""The report in a real browser: Debian's Chromium, driven by Playwright."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raycnn.reporting import serving

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_report(browser, run_dir) -> Iterator:
    """Opens the report; at the end nothing may have been fetched, and no error told."""
    pages, requests, complaints = [], [], []

    def open_report(**context):
        page = browser.new_page(bypass_csp=True, **({"viewport": {"width": 1280, "height": 900}} | context))
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto((run_dir / "report.html").as_uri())
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.close()
    assert complaints == []
    fetched = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert fetched == [(run_dir / "report.html").as_uri()] * len(pages)


def test_every_figure_is_drawn(open_report):
    page = open_report()
    page.evaluate("drawAllFigures()")
    figures = page.locator("[data-figure]")
    assert figures.count() == page.locator("[data-figure] svg.main-svg:first-child").count() >= 20
    assert page.locator("section h2").count() == 12


def test_figures_come_as_they_are_scrolled_to(open_report):
    page = open_report()
    assert page.locator("#plot-fgsm svg").count() == 0
    page.locator("#attacks").scroll_into_view_if_needed()
    page.wait_for_selector("#plot-fgsm svg.main-svg", timeout=60_000)


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_another_turns_them_round(open_report):
    page = open_report()

    def errors() -> list[float]:
        texts = page.locator("#trials-table tbody tr td:nth-child(3)").all_inner_texts()
        return [float(text.split()[0]) for text in texts]

    heading = page.locator("#trials-table thead th").nth(2)
    before = errors()
    heading.locator("button").click()
    assert errors() == sorted(before) != before
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert errors() == sorted(before, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"


def test_what_has_no_value_is_sorted_last_both_ways(open_report):
    page = open_report()
    titles = page.locator("#trials-table thead th").all_inner_texts()
    column = [title.strip("↑↓ ") for title in titles].index("mixup.alpha")
    button = page.locator("#trials-table thead th").nth(column).locator("button")
    for _ in range(2):
        button.click()
        texts = page.locator(f"#trials-table tbody tr > :nth-child({column + 1})").all_inner_texts()
        assert "" in texts
        assert all(texts[: texts.index("")])
        assert not any(texts[texts.index("") :])


def test_the_severity_switch_shows_that_severity(open_report):
    page = open_report()
    page.locator("#corruptions").scroll_into_view_if_needed()
    page.wait_for_selector("#plot-corruptions-cifar-10-c svg.main-svg", timeout=60_000)
    shown = """() => document.getElementById("plot-corruptions-cifar-10-c").data
        .filter((trace) => trace.visible !== false).map((trace) => trace.meta)"""
    assert set(page.evaluate(shown)) == {"mean"}
    page.locator("#corruptions label", has_text="5").click()
    assert set(page.evaluate(shown)) == {"5"}


def test_a_phone_sees_the_page_without_scrolling_sideways(open_report):
    page = open_report(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.evaluate("drawAllFigures()")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_figures_follow_the_colour_scheme(open_report):
    page = open_report(color_scheme="dark")
    page.evaluate("drawAllFigures()")
    font = "document.getElementById('plot-front').layout.font.color"
    assert page.evaluate(font) == "#e9e8e4"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 24)"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{font} === '#1d1f24'", timeout=60_000)


def test_it_prints_with_all_figures_and_in_light_colours(open_report):
    page = open_report(color_scheme="dark")
    assert len(page.pdf(format="A4")) > 100_000
    assert page.locator("[data-figure] svg.main-svg:first-child").count() >= 20


def test_a_live_report_is_loaded_again_when_the_run_has_changed(browser, make, monkeypatch):
    run = make()
    monkeypatch.setattr("raycnn.search.table.write_trials", lambda run: None)  # the run is made up: it has no study
    monkeypatch.setattr(serving, "AGE_S", 0.2)
    with serving.ReportServer(run) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()  # with the page's own policy of what it may fetch
        page.goto(f"http://127.0.0.1:{server.port}/")
        with page.expect_event("load", timeout=60_000):
            os.utime(run / "study.journal")
        assert page.locator("h1").count() == 1
        page.close()
        server.shutdown()


def test_the_read_only_view_of_a_study_is_optuna_dashboards_own_page(browser, tmp_path):
    import optuna

    from raycnn.search.dashboard import server_of
    from raycnn.search.journal import open_storage

    study = optuna.create_study(storage=open_storage(tmp_path / "study.journal"), study_name="seen-in-the-browser")
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
    with server_of(tmp_path / "study.journal", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        failed = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.get_by_text("seen-in-the-browser").first.click(timeout=60_000)
        page.wait_for_url("**/dashboard/studies/0**", timeout=60_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/dashboard/studies/0/trials")
        page.get_by_text("Trial 2").first.wait_for(timeout=60_000)
        page.close()
        server.shutdown()
    assert failed == []
