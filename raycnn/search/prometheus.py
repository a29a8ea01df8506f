"""Where Prometheus finds the metrics of a Ray whose own files nobody else is told of."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

DISCOVERY = "prom_metrics_service_discovery.json"
"""In Ray's folder: which processes to ask. Ray keeps it up to date."""


def links() -> Path:
    """The folder that scripts/monitoring/prometheus.yml names."""
    from platformdirs import user_state_path

    return user_state_path("raycnn") / "prometheus"


@contextlib.contextmanager
def told_to_prometheus(place: Path) -> Iterator[None]:
    """Within it, a link in `links` leads to the discovery file of the Ray in `place`. Those of killed processes go. A
    home that cannot be written has none."""
    link = links() / f"{os.getpid()}.json"
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        for old in link.parent.glob("*.json"):
            if not old.readlink().parent.exists():
                old.unlink(missing_ok=True)
        link.symlink_to(place / DISCOVERY)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            link.unlink()
