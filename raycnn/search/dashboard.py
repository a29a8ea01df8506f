"""optuna-dashboard on the study's journal, on loopback, in an actor of its own: it ends with the search.

It shows and changes nothing. It knows no token, so whoever is on this machine can ask it; optuna-dashboard itself would
let them delete the study.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ray
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from raycnn.search.journal import experimental
from raycnn.slots.loopback import is_loopback_host
from raycnn.slots.pool import HEAD

DELAY_S = 30.0  # the start of a search has better use for the processors
_METHODS = ("GET", "HEAD")
_PATIENCE_S = 30.0  # with who has connected and asks for nothing


class StudyDashboard:
    """Serves the study of `run` from DELAY_S on, at `address` (host:port)."""

    def __init__(self, run: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._journal = run / "study.journal"
        self._actor: Any = None
        self._timer = threading.Timer(DELAY_S, self._start)
        self._timer.daemon = True
        self._timer.start()

    def _start(self) -> None:
        self._actor = ray.remote(num_cpus=0)(_Server).options(resources=HEAD).remote()
        self._actor.serve.remote(self._journal, self._port)

    def close(self) -> None:
        self._timer.cancel()
        self._timer.join(5)
        if self._actor:
            ray.kill(self._actor)


class _Server:
    def serve(self, journal: Path, port: int) -> None:
        """Blocks."""
        import logging
        import warnings

        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        server_of(journal, port).serve_forever()


def server_of(journal: Path, port: int) -> Any:
    """An HTTP server at 127.0.0.1:port that shows the study in `journal`. Raises FileNotFoundError without one."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from optuna.storages import JournalStorage
    from optuna_dashboard import wsgi

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Handler(WSGIRequestHandler):
        timeout = _PATIENCE_S

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a log of who looked is of no use."""

    with experimental():
        app = wsgi(JournalStorage(ReadOnlyJournal(journal)))
    return make_server("127.0.0.1", port, shown_only(app), Server, Handler)


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def shown_only(app: Wsgi) -> Wsgi:
    """`app` for those who ask for loopback by its name, and want to see something; all else is refused before it.

    The name: a page from elsewhere whose name has been made to point to this machine says its own.
    """

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refusal = None
        if not is_loopback_host(environ.get("HTTP_HOST", "")):
            refusal = "403 Forbidden", "ask for 127.0.0.1\n"
        elif environ["REQUEST_METHOD"] not in _METHODS:
            refusal = "405 Method Not Allowed", "this view of the study changes nothing: GET alone\n"
        if refusal is None:
            return app(environ, start_response)
        status, text = refusal
        allow = [("Allow", ", ".join(_METHODS))] if status.startswith("405") else []
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text))), *allow])
        return [text.encode()]

    return guarded


class ReadOnlyJournal(BaseJournalBackend):
    """A journal file that is read and never written, nor locked, nor made. Raises FileNotFoundError if it is not there.

    Optuna's storage writes through `append_logs` alone.
    """

    def __init__(self, journal: Path) -> None:
        journal.stat()  # Optuna's own would make it
        self._file = JournalFileBackend(str(journal))

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._file.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("this view of the study is read-only")
