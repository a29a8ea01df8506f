"""What a search tells an experiment tracker: MLflow, Weights & Biases. A run there for each trial.

Where and as whom is said the trackers' own way (MLFLOW_TRACKING_URI, WANDB_API_KEY, WANDB_MODE); keys stand in no
specification. A tracker works in a thread of its own, and the search never waits for it; one that fails is left alone
from then on, with one warning. A resumed search goes on with the runs that it began.
"""

import hashlib
import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray.tune.logger import LoggerCallback

from raycnn.errors import ClusterError
from raycnn.masking import masked
from raycnn.search.trainable import trial_name
from raycnn.spec.search import SearchSpec

PATIENCE_S = 60.0  # at the end of the search, for what has not been told yet
METRICS = ("val/", "train/", "cost/", "lr")


class Tracker(Protocol):
    """One service. Its methods are called in turn, in one thread."""

    def begin(self, number: int, parameters: Mapping[str, Any]) -> None: ...
    def log(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None: ...
    def end(self, number: int, state: str) -> None: ...


class Mlflow:
    """Without MLFLOW_TRACKING_URI the runs go to mlflow.db in the run directory."""

    def __init__(self, run: Path, spec: SearchSpec) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        log = logging.getLogger("mlflow")
        log.handlers, log.propagate = [], True  # to the run's log, as Ray's words
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(spec.name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(spec.name)
        self._place = str(run)
        self._runs: dict[int, str] = {}

    def begin(self, number: int, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

        own = f"tags.`raycnn.trial` = '{number}'"
        before = [
            r for r in self._client.search_runs([self._experiment], own) if r.data.tags.get("raycnn.run") == self._place
        ]
        if before:
            self._runs[number] = before[0].info.run_id
            self._client.update_run(self._runs[number], status="RUNNING")
            return
        tags = {"raycnn.run": self._place, "raycnn.trial": str(number)}
        created = self._client.create_run(self._experiment, tags=tags, run_name=trial_name(number))
        self._runs[number] = created.info.run_id
        self._client.log_batch(self._runs[number], params=[Param(name, str(v)) for name, v in parameters.items()])

    def log(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = int(time.time() * 1000)
        self._client.log_batch(self._runs[number], [Metric(name, v, now, epoch) for name, v in metrics.items()])

    def end(self, number: int, state: str) -> None:
        run = self._runs.pop(number)
        self._client.set_tag(run, "raycnn.state", state)
        self._client.set_terminated(run, "FAILED" if state == "FAIL" else "FINISHED")


class Wandb:
    """Project WANDB_PROJECT, or the search's name; its files lie in the run directory."""

    def __init__(self, run: Path, spec: SearchSpec) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb, self._run, self._spec = wandb, run, spec
        self._runs: dict[int, Any] = {}

    def begin(self, number: int, parameters: Mapping[str, Any]) -> None:
        place = hashlib.sha256(str(self._run).encode()).hexdigest()[:8]  # two runs of one search are two
        self._runs[number] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", self._spec.name),
            group=self._run.name,
            id=f"{self._spec.name}-{place}-{trial_name(number)}",
            name=trial_name(number),
            config=dict(parameters),
            dir=str(self._run),
            resume="allow",
            reinit="create_new",  # several at a time in this process
            settings=self._wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )

    def log(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._runs[number].log(dict(metrics), step=epoch)

    def end(self, number: int, state: str) -> None:
        run = self._runs.pop(number)
        run.summary["state"] = state
        run.finish(exit_code=1 if state == "FAIL" else 0)


TRACKERS: dict[str, Callable[[Path, SearchSpec], Tracker]] = {"mlflow": Mlflow, "wandb": Wandb}


def check_trackers(spec: SearchSpec) -> None:
    """Raises ClusterError now for what would fail once the search is under way."""
    for name in spec.tracking:
        if not importlib.util.find_spec(name):
            raise ClusterError(f"tracking: {name} is not installed. Run pip install {name}, or leave it out.")
    if "wandb" in spec.tracking and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        import wandb  # pyright: ignore[reportMissingImports]

        if not wandb.login(prompt=False, verify=False):
            raise ClusterError("tracking: wandb has no key. Run wandb login, or set WANDB_MODE=offline.")


class Tracking(LoggerCallback):
    """Tune's view of a tracker. `warn` is told, once, why it was given up. `close` waits for what is left to tell."""

    def __init__(self, name: str, run: Path, spec: SearchSpec, warn: Callable[[str], None]) -> None:
        self._name, self._warn = name, warn
        self._jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        # A daemon, so that a client that hangs does not hold this process at its end.
        self._thread = threading.Thread(target=self._work, daemon=True, name=name)
        self._lost = False
        self._thread.start()
        self._tracker: Tracker
        self._do(lambda: setattr(self, "_tracker", TRACKERS[name](run, spec)))

    def _do(self, job: Callable[[], Any]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while job := self._jobs.get():
            if self._lost:
                continue
            try:
                job()
            except Exception as error:  # whatever a service's client may raise: the search goes on without it
                self._lost = True
                words = masked(" ".join(str(error).split()))  # a client may quote its URI, with a password
                self._warn(f"tracking: {self._name} is told nothing more ({words[:300]})")

    def log_trial_start(self, trial: Any) -> None:
        parameters = {name: value for name, value in trial.config.items() if name not in ("number", "spec")}
        number = trial.config["number"]
        self._do(lambda: self._tracker.begin(number, parameters))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        if "outcome" in result:
            return
        metrics = {name: float(value) for name, value in result.items() if name.startswith(METRICS)}
        number, epoch = trial.config["number"], result["epoch"]
        self._do(lambda: self._tracker.log(number, epoch, metrics))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        number, outcome = trial.config["number"], trial.last_result.get("outcome", "stopped")
        state = "FAIL" if failed or outcome == "failed" else "COMPLETE" if outcome == "done" else "PRUNED"
        self._do(lambda: self._tracker.end(number, state))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._lost = True  # what is left is passed over
            self._warn(f"tracking: {self._name} did not answer for {PATIENCE_S:g} s; it lacks the end of the search")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its callbacks; the study is the state
