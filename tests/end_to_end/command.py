"""The main command as a user runs it: in a process of its own, on a small search."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from raycnn.search.journal import read_trials

SPACE = """
name: small
data: {name: shapes, validation: 200, train_images: 1400, test_images: 200}
model: fastnet
budget: {epochs: 4, batch_size: 100}
space:
  regularizers:
    cutout: {choice: {off: {}, on: {size_px: {type: int, low: 2, high: 12}}}}
    mixup: {choice: {off: {}, on: {alpha: {type: float, low: 0.1, high: 1.0}}}}
  optimizer:
    sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}
search: {trials: 6, corruption_images: 50, grace_epochs: 2, startup_trials: 3}
trainer: {checkpoint_s: 0}
finals: {top: 1, seeds: 2, score: [generated-c], generated: [gaussian_noise, brightness]}
"""


class Search:
    """One run of the command. `space`: text of the file; further arguments as on the command line."""

    def __init__(self, directory: Path, *arguments: str, space: str = SPACE) -> None:
        self.run = directory / "run"
        file = directory / "space.yaml"
        file.write_text(space)
        self.output = directory / f"output-{time.monotonic_ns()}.txt"
        self.started = time.monotonic()
        command = [sys.executable, "-m", "raycnn.tune", str(file), "--run", str(self.run), *arguments]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, timeout_s: float = 400) -> int:
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.output.read_text()

    def until(self, condition: Callable[[], Any], timeout_s: float = 300) -> Any:
        """Waits until `condition()` is true while the command runs, and returns its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"too late; it said:\n{self.text()}"
            time.sleep(0.1)
        return value

    def kill(self, sig: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, sig)

    def trials(self) -> list[FrozenTrial]:
        return read_trials(self.run)

    def epochs(self, number: int) -> list[int]:
        """The epochs in a trial's log, in order."""
        log = self.run / "trials" / str(number) / "metrics.jsonl"
        return [json.loads(line)["epoch"] for line in log.read_text().splitlines()] if log.exists() else []

    def processes(self, title: str) -> list[int]:
        """The process ids of its Ray processes with this in their title: all that Ray starts stays in the driver's
        session, also when the driver is dead, and no other search is in it."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            process = int(path.parent.name)
            try:
                if title in path.read_text(errors="replace") and os.getsid(process) == self.process.pid:
                    found.append(process)
            except OSError:
                continue
        return found
