"""optuna-dashboard shows a study and changes nothing: it asks nobody for a token."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import wsgi

from raycnn.search.dashboard import ReadOnlyJournal, server_of
from raycnn.search.journal import open_storage

METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "study.journal"
    study = optuna.create_study(storage=open_storage(path), study_name="small")
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
    return path


@pytest.fixture(scope="module")
def port(journal: Path) -> Iterator[int]:
    with server_of(journal, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port: int, method: str, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, b"{}", {"Host": host, "Content-Type": "application/json", "Accept-Encoding": ""})
    answer = connection.getresponse()
    return answer.status, answer.read()


def state(journal: Path) -> tuple[bytes, list[str]]:
    return journal.read_bytes(), sorted(path.name for path in journal.parent.iterdir())


def test_nobody_changes_the_study_by_any_method_on_any_route(journal: Path, port: int):
    before = state(journal)
    routes: Any = wsgi(optuna.storages.InMemoryStorage())
    paths = {route.rule for route in routes.routes}
    assert len(paths) > 20
    places = {"<study_id:int>": "0", "<trial_id:int>": "0", "<history_id>": "x", "<plot_type>": "edf"}
    for path in sorted(paths):
        for name, value in places.items():
            path = path.replace(name, value)
        for method in METHODS:
            assert ask(port, method, path.replace("<", "").replace(">", ""))[0] == 405, f"{method} {path}"
    assert state(journal) == before


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", "", "localhost.evil.example:80"])
def test_a_page_from_elsewhere_cannot_ask_by_a_name_of_its_own(journal: Path, port: int, host: str):
    assert ask(port, "GET", "/api/studies", host)[0] == 403
    assert ask(port, "DELETE", "/api/studies/0", host)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:9000", "localhost:9000"])
def test_the_study_is_shown(journal: Path, port: int, host: str):
    before = state(journal)
    assert b'"small"' in ask(port, "GET", "/api/studies", host)[1]
    status, detail = ask(port, "GET", "/api/studies/0", host)
    assert status == 200
    assert b'"number": 2' in detail
    assert ask(port, "HEAD", "/dashboard", host) == (200, b"")
    assert state(journal) == before


def test_what_the_search_adds_is_seen(journal: Path):
    storage = optuna.storages.JournalStorage(ReadOnlyJournal(journal))
    (study,) = storage.get_all_studies()
    before = storage.get_n_trials(study._study_id)
    open_storage(journal).create_new_trial(study._study_id)
    assert storage.get_n_trials(study._study_id) == before + 1


def test_the_storage_behind_it_cannot_write_even_if_it_is_asked_to(journal: Path):
    before = state(journal)
    storage = optuna.storages.JournalStorage(ReadOnlyJournal(journal))
    (study,) = storage.get_all_studies()
    with pytest.raises(PermissionError):
        storage.delete_study(study._study_id)
    with pytest.raises(PermissionError):
        storage.create_new_trial(study._study_id)
    assert state(journal) == before


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        ReadOnlyJournal(tmp_path / "study.journal")
    assert list(tmp_path.iterdir()) == []
