"""Submit the scoring of a run to its cluster through Ray's Job API, and stream what it says."""

import asyncio
import contextlib
import os
import re
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import raycnn
from raycnn import invocation
from raycnn.errors import ClusterError
from raycnn.models.trust import trusted
from raycnn.search.cluster import Cluster

AGENT_S = 60.0
STOP_S = 6.0
_USER_ERROR = 2  # of `raycnn score`: its last line says what is wrong


def score_as_job(run: Path, cluster: Cluster, data_root: Path | None, on_line: Callable[[str], None]) -> None:
    """Run `raycnn score RUN` as a job on the cluster; returns when it has succeeded. on_line: called from a thread.

    An interrupt stops the job. Raises ClusterError with the job's error if it fails, or if it cannot be followed.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    command = [sys.executable, "-m", "raycnn", "score", str(run), "--address", cluster.address, "--plain"]
    for name in sorted(trusted().names):  # this user's choice, which the job's may not know
        command += ["--trusted", name]
    if data_root:
        command += ["--data", str(data_root)]
    again = f"Mend it, then run: {invocation.command('score', run)}"
    job = f"raycnn-score-{uuid.uuid4().hex[:8]}"  # known before it is taken, so that an interrupt can stop it
    try:
        client = JobSubmissionClient(f"http://{cluster.dashboard}")
        try:
            submit_job(
                client,
                submission_id=job,
                entrypoint=shlex.join(command),
                metadata={"raycnn_run": str(run), "raycnn": raycnn.__version__},
                # Ray reads what the job prints in the encoding of the system, whatever this process prints in.
                runtime_env={"env_vars": {"PYTHONPATH": _python_path(), "PYTHONIOENCODING": ""}},
            )
            last = _follow(client, job, on_line)
            status, info = client.get_job_status(job), client.get_job_info(job)
        except KeyboardInterrupt:
            _stop(client, job)
            raise
    except (RuntimeError, OSError) as error:  # of requests and of Ray's client, also where the dashboard is gone
        words = " ".join(str(error).split())[:200].rstrip(".")
        raise ClusterError(f"the scoring job {job}: {words}. {again}") from error
    if status != JobStatus.SUCCEEDED:
        told = last if info.driver_exit_code == _USER_ERROR else ""  # else it is of progress
        words = told or _cause(info.message or "no reason is known")
        raise ClusterError(f"the scoring job {job} {status.lower()}: {words.rstrip('.')}. {again}")


def _follow(client: Any, job: str, on_line: Callable[[str], None]) -> str:
    """Hands on what the job says until it ends; its last line. In a thread, for what the stream still waits for when
    it is interrupted is no matter of this one."""
    last = [""]
    failed: list[Exception] = []

    def tell(line: str) -> None:
        last[0] = line
        on_line(line)

    def follow() -> None:
        try:
            asyncio.run(_stream(client, job, tell))
        except Exception as error:  # raised below, unless an interrupt came first
            failed.append(error)

    thread = threading.Thread(target=follow, daemon=True, name="scoring")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return last[0]


def _stop(client: Any, job: str) -> None:
    """Ends the job if it runs, and waits for that, but not for ever: the dashboard may be what hangs."""

    def stop() -> None:
        with contextlib.suppress(Exception):
            client.stop_job(job)
            while not client.get_job_status(job).is_terminal():
                time.sleep(0.2)

    thread = threading.Thread(target=stop, daemon=True, name="stop scoring")
    thread.start()
    thread.join(STOP_S)


def _cause(message: str) -> str:
    """One line of what Ray says of a job that has failed, which ends in the last lines of its log: that of the last
    exception, else the first, with the exit code."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", message).strip().splitlines()
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)(\(\w+\))?(: |$)", line)]
    return (errors[-1] if errors else lines[0].partition(", last available logs")[0])[:300]


def submit_job(client: Any, **job: Any) -> str:
    """The job's id. A cluster that has just started has no agent for jobs yet: it is asked again for a minute.

    Raises what Ray's JobSubmissionClient.submit_job raises.
    """
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            return client.submit_job(**job)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


async def _stream(client: Any, job: str, on_line: Callable[[str], object]) -> None:
    rest = ""
    async for text in client.tail_job_logs(job):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if line.startswith("raycnn:"):  # else Ray's own chatter
                on_line(line.removeprefix("raycnn:").strip())


def _python_path() -> str:
    """This raycnn for the job, also where it runs from a checkout that is not installed."""
    here = str(Path(raycnn.__file__).parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
