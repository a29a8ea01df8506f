"""Connect to Ray, or start it here; quietly: everything that Ray says goes to the run's log file."""

import contextlib
import functools
import logging
import os
import secrets
import signal
import socket
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycnn.errors import ClusterError
from raycnn.slots import loopback

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker is noticed and replaced sooner
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1000000",  # a slot waits for resources as long as it is wanted
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process per slot whose notices nobody here reads
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine the usual 30 may not do
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


TOKEN = Path("~/.ray/auth_token").expanduser()


@dataclass(frozen=True, slots=True)
class Cluster:
    """dashboard: host:port of Ray's dashboard, where the Job API listens too. ours: started by this process.

    new_token: this process has written the token file that dashboard and Job API ask for.
    """

    dashboard: str
    ours: bool
    new_token: bool = False


def prepare_environment(log: Path) -> None:
    """Changes this process: settings for Ray, and its words go to `log` instead of the screen. Before importing Ray."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    logging.captureWarnings(True)
    warnings.simplefilter("ignore", DeprecationWarning)


def connect(address: str | None) -> Cluster:
    """Start Ray on this machine, or join the cluster at `address`. Raises ClusterError."""
    import ray

    new_token = False
    if address is None:
        new_token = _have_token()
        _stay_on_loopback()
        _choose_ports()
    elif TOKEN.exists() and "RAY_AUTH_MODE" not in os.environ:
        # Where there is a token `ray start` asks for it, but ray.init does not send it.
        os.environ["RAY_AUTH_MODE"] = "token"
        ray._raylet.Config.initialize("")  # pyright: ignore as Ray itself does for a cluster that it starts
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        context = ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else {"dashboard_host": "127.0.0.1", "include_dashboard": True}),
        )
    except SystemExit as error:  # SIGTERM while Ray starts: its own handler's way
        raise KeyboardInterrupt from error
    except Exception as error:  # Ray raises it bare where one of its processes does not start
        words = " ".join(str(error).split())
        reason = words if len(words) < 300 else f"… {words[-250:]}"
        mend = "Mend that and run the same command again."
        if address:
            mend = "Check ray status there, or leave --address out to use this machine."
        raise ClusterError(
            f"--address {address or 'local'}: Ray cannot be reached or started ({reason}). {mend}"
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
    return Cluster(dashboard=context.dashboard_url or "", ours=address is None, new_token=new_token)


def _have_token() -> bool:
    """Write ~/.ray/auth_token where there is none, readable for its owner alone (Ray's own is for everybody); whether
    it was written. Not where the user has chosen otherwise."""
    if os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        return False
    if TOKEN.exists():
        if TOKEN.stat().st_uid == os.getuid():
            TOKEN.chmod(0o600)
        return False
    TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another search that starts at the same time
        with os.fdopen(os.open(TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        return True
    return False


def _stay_on_loopback() -> None:
    """All servers of Ray, and what its workers open, on 127.0.0.1: other machines have no part in this. Ray has the
    same by default on macOS and Windows."""
    import ray._private.ray_constants as constants

    os.environ[constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for Ray's processes
    constants.ENABLE_RAY_CLUSTER = False
    loopback.use_interface()


def _choose_ports() -> None:
    """So that several Rays on one machine do not meet. The job agent's usual port may be held by another (or a dying
    one), and then it takes no job; and Ray Train's processes, which look for the cluster's address, find several."""
    import ray._private.parameter as parameter

    with socket.socket() as agent, socket.socket() as control:
        for probe in (agent, control):
            probe.bind((loopback.ADDRESS, 0))
        ports = {
            "dashboard_agent_listen_port": agent.getsockname()[1],
            "gcs_server_port": control.getsockname()[1],
        }
    os.environ["RAY_ADDRESS"] = f"{loopback.ADDRESS}:{ports['gcs_server_port']}"  # for Ray's processes
    original = getattr(parameter.RayParams, "func", parameter.RayParams)
    setattr(parameter, "RayParams", functools.partial(original, **ports))  # noqa: B010 for pyright, which sees a class


def _log_daemon(data: dict[str, Any], ignore_prefix: bool) -> None:
    logging.getLogger("ray.daemons").warning("%s", " ".join(map(str, data.get("lines", []))))


def disconnect() -> None:
    import ray

    ray.shutdown()
    os.environ.pop("RAY_ADDRESS", None)
