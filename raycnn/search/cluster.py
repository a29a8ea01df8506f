"""Connect to Ray, or start it here; quietly: everything that Ray says goes to the run's log file."""

import contextlib
import logging
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import ClusterError
from raycnn.invocation import undecodable
from raycnn.masking import MaskingFormatter, masked
from raycnn.process_table import arguments_of, state_and_parent
from raycnn.search import daemons
from raycnn.search.local_ray import START_S, local_ray
from raycnn.search.token import has_usual_token
from raycnn.search.worker_paths import job_config

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker is noticed and replaced sooner
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000",  # a slot waits for resources as long as it is wanted
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process per slot whose notices nobody here reads
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine the usual 30 may not do
    "RAY_agent_register_timeout_ms": f"{START_S * 1000:.0f}",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": f"{START_S:.0f}",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning on each start
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial's outcome is a result without metrics
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # TensorBoard events only
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # the study is the state, not Tune's
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "GOMP_SPINCOUNT": "10000",  # threads that spin beside a busy neighbour collapse to a fifth of their speed
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}

_ours = contextlib.ExitStack()
"""A Ray that this process has started; it ends when this is closed."""

_watch: daemons.Watch | None = None
"""Over the Ray that is connected."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """address: host:port of its control (GCS), which is its alone: `auto` may be another Ray of this machine.

    dashboard: host:port of Ray's dashboard, where the Job API listens too. ours: started by this process.

    new_token: a file that this process has written, with the token that dashboard and Job API ask for.
    """

    address: str
    dashboard: str
    ours: bool
    new_token: Path | None = None


def prepare_environment(log: Path) -> None:
    """Changes this process: settings for Ray, and its words go to `log` instead of the screen. Before importing Ray.

    Raises ClusterError where what Ray is told of this process, command line and folder, is no text to it.
    """
    for name in (*sys.argv, str(Path.cwd())):
        if undecodable(name):
            encoding = sys.getfilesystemencoding()
            mend = "Rename it" if encoding == "utf-8" else "Rename it, or set LC_ALL=C.UTF-8"
            raise ClusterError(f"{name}: is not {encoding.upper()}, and Ray takes no other names. {mend}.")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    handler = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(MaskingFormatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    logging.raiseExceptions = False  # a log whose disk is full prints no tracebacks: others say that it is full
    logging.captureWarnings(True)
    warnings.simplefilter("ignore", DeprecationWarning)


def connect(address: str | None) -> Cluster:
    """Start Ray on this machine, or join the cluster at `address`. Raises ClusterError."""
    import ray

    if address == "auto":
        address = _cluster_of_this_job() or address
    if address and has_usual_token() and "RAY_AUTH_MODE" not in os.environ:
        # Where there is a token `ray start` asks for it, but ray.init does not send it.
        os.environ["RAY_AUTH_MODE"] = "token"
        ray._raylet.Config.initialize("")  # pyright: ignore as Ray itself does for a cluster that it starts
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "job_config": job_config()}
    new_token = None
    try:
        if address:
            context = ray.init(address, **quiet)
        else:
            started = _ours.enter_context(local_ray(include_dashboard=True, **quiet))
            context, new_token = started.context, started.token
    except SystemExit as error:  # SIGTERM while Ray starts: its own handler's way
        raise KeyboardInterrupt from error
    except Exception as error:  # Ray raises it bare where one of its processes does not start
        words = masked(" ".join(str(error).split()))
        reason = words if len(words) < 300 else f"… {words[-250:]}"
        if not address:
            if isinstance(error, ClusterError):
                raise
            raise ClusterError(f"Ray does not start on this machine: {reason}. See raycnn.log.") from error
        raise ClusterError(
            f"--address {address}: Ray cannot be reached ({reason}). "
            "Check ray status there, or leave --address out to use this machine."
        ) from error
    # Ray has put its own in place of a command's, which ends what runs and says how to resume.
    for name, handler in handlers.items():
        if callable(handler):
            signal.signal(name, handler)
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "ray._private"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    # Without asking log_to_driver, Ray prints what its daemons report as errors.
    ray._private.worker.print_to_stdstream = _log_daemon  # pyright: ignore private
    found = ray.get_runtime_context().gcs_address
    global _watch
    _watch = daemons.Watch(daemons.own() if address is None else daemons.joined(found))
    return Cluster(address=found, dashboard=context.dashboard_url or "", ours=address is None, new_token=new_token)


def _cluster_of_this_job() -> str | None:
    """The address of the cluster that runs this process as a job, where it does. Ray itself tells a job that of any
    cluster that it finds on the machine (2.60); but above the job is a raylet, and that knows its own."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return None
    process = os.getpid()
    with contextlib.suppress(OSError, ValueError, IndexError):
        while (process := state_and_parent(process)[1]) > 1:
            for argument in arguments_of(process):
                if argument.startswith("--gcs-address="):
                    return argument.partition("=")[2]
    return None


def _log_daemon(data: dict[str, Any], ignore_prefix: bool) -> None:
    logging.getLogger("ray.daemons").warning("%s", " ".join(map(str, data.get("lines", []))))


def disconnect() -> None:
    """Leave Ray; one that this process has started ends. After an error, Ray's last words are in our log."""
    import ray

    if _watch:
        _watch.end()  # before Ray's processes do
    _ours.__exit__(*sys.exc_info())
    ray.shutdown()
