"""optuna-dashboard on the study's journal, on loopback, in an actor of its own: it ends with the search."""

import socket
from pathlib import Path
from typing import Any

import ray

from raycnn.slots.pool import HEAD


class _Dashboard:
    def serve(self, journal: str, port: int) -> None:
        """Blocks. Waits for the journal, and with its imports until the search has had its start."""
        import logging
        import time
        import warnings

        time.sleep(30)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna_dashboard import run_server

        run_server(JournalStorage(JournalFileBackend(journal)), host="127.0.0.1", port=port)


def start_dashboard(run: Path) -> tuple[Any, str]:
    """The actor and its host:port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    actor: Any = ray.remote(num_cpus=0)(_Dashboard).options(resources=HEAD).remote()
    actor.serve.remote(str(run / "study.journal"), port)
    return actor, f"127.0.0.1:{port}"
