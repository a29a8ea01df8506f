"""The live report: made anew when the run has changed, on loopback, for nobody who came by another name."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import make_run

from raycnn.errors import DataError
from raycnn.reporting import serving
from raycnn.reporting.serving import ReportServer


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(serving, "AGE_S", 0.0)
    monkeypatch.setattr("raycnn.search.table.write_trials", lambda run: None)  # the run has tables, but no real study
    make_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def server(run: Path) -> Iterator[ReportServer]:
    with ReportServer(run) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def get(server: ReportServer, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Host": f"{host}:{server.port}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_is_the_report_and_asks_for_newer_ones(server: ReportServer, run: Path):
    status, page = get(server, "/")
    assert status == 200
    _, version = get(server, "/version")
    assert version in page
    assert page.rstrip().endswith("</html>")
    assert (run / "report.html").exists()
    os.utime(run / "study.journal")
    _, newer = get(server, "/version")
    assert newer != version
    assert newer in get(server, "/")[1]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_a_page_from_elsewhere_cannot_read_it_through_a_name_of_its_own(server: ReportServer, host: str):
    assert get(server, "/", host)[0] == 403
    assert get(server, "/version", host)[0] == 403


def test_there_is_nothing_else(server: ReportServer):
    for path in ("/spec.yaml", "/../run/manifest.json", "/raycnn.log"):
        assert get(server, path)[0] == 404


def test_a_run_that_cannot_be_read_is_told(server: ReportServer, run: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(run: Path) -> Path:
        raise DataError("manifest.json: is not JSON.")

    monkeypatch.setattr(serving, "write_report", broken)
    assert get(server, "/") == (503, "manifest.json: is not JSON.")
