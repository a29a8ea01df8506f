"""Submit the scoring of a run to its cluster through Ray's Job API, and stream what it says."""

import asyncio
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import raycnn
from raycnn.errors import ClusterError

AGENT_S = 60.0
_USER_ERROR = 2  # of `raycnn score`: its last line says what is wrong


def score_as_job(run: Path, dashboard: str, data_root: Path | None, on_line: Callable[[str], None]) -> None:
    """Run `raycnn score RUN` as a job on the cluster whose dashboard is at host:port; returns when it has succeeded.

    An interrupt stops the job. Raises ClusterError with the job's error if it fails.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(f"http://{dashboard}")
    command = [sys.executable, "-m", "raycnn", "score", str(run), "--address", "auto", "--plain"]
    if data_root:
        command += ["--data", str(data_root)]
    try:
        job = submit_job(
            client,
            entrypoint=shlex.join(command),
            metadata={"raycnn_run": str(run), "raycnn": raycnn.__version__},
            runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
        )
    except RuntimeError as error:
        words = " ".join(str(error).split())[:200]
        raise ClusterError(f"the scoring job was not taken: {words}. Run the same command again.") from error
    last = [""]
    try:
        asyncio.run(_stream(client, job, lambda line: (last.__setitem__(0, line), on_line(line))))
    except BaseException:
        client.stop_job(job)
        raise
    status = client.get_job_status(job)
    if status != JobStatus.SUCCEEDED:
        info = client.get_job_info(job)
        told = last[0] if info.driver_exit_code == _USER_ERROR else ""  # else it is of progress
        words = told or _cause(info.message or "no reason is known")
        raise ClusterError(
            f"the scoring job {job} {status.lower()}: {words.rstrip('.')}. Mend it, then run: raycnn score {run}"
        )


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
