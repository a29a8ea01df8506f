"""Prometheus of the Debian package scrapes a search, by the configuration in scripts/monitoring."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import install_packages
from ruamel.yaml import YAML

MONITORING = Path(__file__).parents[2] / "scripts" / "monitoring"
SPACE = """
name: watched
data: {name: shapes, validation: 200, train_images: 1400, test_images: 200}
model: fastnet
budget: {epochs: 3, batch_size: 100}
space: {optimizer: {sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}}}
search: {trials: 24, corruption_images: 50, grace_epochs: 1}  # Ray tells what is counted every ten seconds
finals: off
"""


def expressions() -> list[str]:
    """Of all panels of the dashboard, for any search."""
    dashboard = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [expression.replace("$search", ".*") for expression in found]


@pytest.fixture
def prometheus() -> str:
    if not shutil.which("prometheus"):
        install_packages("prometheus")
    return "prometheus"


@pytest.fixture
def ask(prometheus: str, tmp_path: Path) -> Iterator[Any]:
    """A function from a PromQL expression to the values of its series, by their labels."""
    settings = YAML(typ="safe").load(MONITORING / "prometheus.yml")
    settings["global"]["scrape_interval"] = "1s"  # the search is short
    discovery = settings["scrape_configs"][0]["file_sd_configs"][0]
    discovery["refresh_interval"] = "1s"
    discovery["files"] = [path.replace("HOME", str(Path.home())) for path in discovery["files"]]
    file = tmp_path / "prometheus.yml"
    with file.open("w") as stream:
        YAML(typ="safe").dump(settings, stream)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [prometheus, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--log.level=error"]

    def ask_it(expression: str) -> dict[str, float]:
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
                found = json.load(answer)
        except OSError:
            return {}
        return {json.dumps(s["metric"], sort_keys=True): float(s["value"][1]) for s in found["data"]["result"]}

    with subprocess.Popen(command) as server:
        yield ask_it
        server.terminate()


@pytest.mark.multinode
def test_prometheus_sees_trials_best_values_speed_and_slots(ask: Any, tmp_path: Path):
    space, run = tmp_path / "space.yaml", tmp_path / "watched-run"
    space.write_text(SPACE)
    command = [sys.executable, "-m", "raycnn.tune", str(space), "--run", str(run)]
    ours = [expression for expression in expressions() if "raycnn" in expression]
    seen: dict[str, dict[str, float]] = {expression: {} for expression in ours}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as search:
        deadline = time.monotonic() + 200
        while search.poll() is None and time.monotonic() < deadline:
            for expression in ours:
                found = {name: value for name, value in ask(expression).items() if "watched-run" in name}
                for name, value in found.items():
                    seen[expression][name] = max(value, seen[expression].get(name, 0.0))
            time.sleep(0.5)
        assert search.wait(200) == 0
    for expression, series in seen.items():
        assert series, f"no series for {expression}"
        assert max(series.values()) > 0, expression
    states = {json.loads(name)["state"]: value for name, value in seen[ours[0]].items()}
    assert set(states) == {"RUNNING", "COMPLETE", "PRUNED", "FAIL"}
    assert states["RUNNING"] <= 2


def test_the_dashboard_asks_only_for_what_is_measured():
    import inspect

    from raycnn.search import gauges

    made = set(re.findall(r'gauge\("([a-z_]+)"', inspect.getsource(gauges)))
    asked = {name for expression in expressions() for name in re.findall(r"ray_raycnn_([a-z_]+)", expression)}
    assert asked == made
    dashboard = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())
    source = YAML(typ="safe").load(MONITORING / "grafana" / "datasource.yml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    corners = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(corners)) == len(corners)
