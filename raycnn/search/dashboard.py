"""optuna-dashboard on the study's journal, on loopback, in an actor of its own: it ends with the search."""

import socket
import threading
from pathlib import Path
from typing import Any

import ray

from raycnn.slots.pool import HEAD

DELAY_S = 30.0  # the start of a search has better use for the processors


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
        self._actor.serve.remote(str(self._journal), self._port)

    def close(self) -> None:
        self._timer.cancel()
        self._timer.join(5)
        if self._actor:
            ray.kill(self._actor)


class _Server:
    def serve(self, journal: str, port: int) -> None:
        """Blocks."""
        import logging
        import warnings

        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna_dashboard import run_server

        run_server(JournalStorage(JournalFileBackend(journal)), host="127.0.0.1", port=port)
