"""What is said of a scoring job that fails."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.job_submission
from ray.job_submission import JobStatus

from raycnn.errors import ClusterError
from raycnn.search.cluster import Cluster
from raycnn.search.scoring_job import score_as_job

PROGRESS = "raycnn: scoring 4 trainings on 25 sets\nraycnn: scored 12/25  cifar-10-c fog, about 3 min left\n"
HEAD = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\n"
TRACEBACK = """Traceback (most recent call last):
  File "scoring.py", line 103, in _spread
    scored: Any = ray.get(ready)
ray.exceptions.RayTaskError(OutOfMemoryError): \x1b[36mray::scorer-0.score()\x1b[39m (pid=1, ip=127.0.0.1)
  File "scoring.py", line 131, in score
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""


def failed(monkeypatch: pytest.MonkeyPatch, code: int | None, log: str, message: str | None = None) -> str:
    """The error's text, of a job that ends with this exit code after this log."""

    taken: list[dict[str, Any]] = []

    class Client:
        def __init__(self, _: str) -> None: ...

        def submit_job(self, **job: Any) -> str:
            taken.append(job)
            return job["submission_id"]

        async def tail_job_logs(self, _: str):
            yield log

        def get_job_status(self, _: str) -> JobStatus:
            return JobStatus.FAILED

        def get_job_info(self, _: str) -> SimpleNamespace:
            text = HEAD.format(code) + log if message is None else message
            return SimpleNamespace(driver_exit_code=code, message=text)

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    lines: list[str] = []
    with pytest.raises(ClusterError) as caught:
        score_as_job(Path("/run"), Cluster("127.0.0.1:1", "127.0.0.1:2", ours=True), None, lines.append)
    assert lines[:2] == [line.removeprefix("raycnn: ") for line in PROGRESS.splitlines()]
    assert "\n" not in str(caught.value)
    (job,) = taken
    assert " score /run --address 127.0.0.1:1 " in job["entrypoint"]  # auto is any Ray of this machine
    assert job["runtime_env"]["env_vars"]["PYTHONIOENCODING"] == ""  # Ray reads its log in the system's encoding
    return str(caught.value)


@pytest.mark.parametrize(
    ("code", "log", "message", "said"),
    [
        (1, PROGRESS + TRACEBACK, None, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (1, PROGRESS + "Traceback (most recent call last):\nMemoryError\n", None, "MemoryError"),
        (-9, PROGRESS, None, "Job entrypoint command failed with exit code -9"),
        (2, PROGRESS + "raycnn: fog.npy: is torn. Get it again.\n", None, "fog.npy: is torn. Get it again"),
        (None, PROGRESS, "Job supervisor actor died: its node went.", "Job supervisor actor died: its node went"),
        (None, PROGRESS, "", "no reason is known"),
    ],
    ids=["exception in a scorer", "exception without words", "killed", "a user's error", "supervisor died", "nothing"],
)
def test_a_job_that_fails_is_explained_by_its_error_and_never_by_its_progress(monkeypatch, code, log, message, said):
    words = failed(monkeypatch, code, log, message)
    assert re.fullmatch(
        rf"the scoring job raycnn-score-\w+ failed: {re.escape(said)}\. Mend it, then run: .* -m raycnn score /run",
        words,
    )
