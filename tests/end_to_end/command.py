"""The main command as a user runs it: in a process of its own, on a small search."""

import json
import os
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


# Makes its standard input the terminal of its session, and becomes the command, which is in front there.
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def as_user(user: int | None) -> list[str]:
    """What a command begins with that another user is to run; the tests are root."""
    return [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


class Command:
    """A command line in front of a terminal of its own, as in a shell: Ctrl-C and `signal` reach its whole process
    group. What it prints goes to a file.

    place: any path that its arguments name, by which its jobs are known. user: the number of another user.
    """

    def __init__(
        self, place: Path, *command: str, environment: dict[str, str] | None = None, user: int | None = None
    ) -> None:
        self.place = place
        self.output = place.parent / f"output-{time.monotonic_ns()}.txt"
        self._terminal, inside = os.openpty()
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*as_user(user), sys.executable, "-c", ON_TERMINAL, *command],
                stdin=inside,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        os.close(inside)

    def wait(self, timeout_s: float = 400) -> int:
        status = self.process.wait(timeout_s)
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        return status

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

    def ctrl_c(self) -> None:
        """As the key: the kernel sends SIGINT to whatever is in front."""
        os.write(self._terminal, b"\x03")

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """The driver alone, on the spot."""
        self.process.kill()

    def left(self) -> list[str]:
        """The command lines of what is there of it: all that it has started is in its session, but for jobs, which
        name the place."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                line = (folder / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
            except OSError:
                continue
            mine = int(state[3]) == self.process.pid or str(self.place) in line
            if mine and state[0] not in "ZX" and int(folder.name) != os.getpid():
                found.append(f"{folder.name} {line}")
        return found

    def ends(self, status: int, within_s: float = 60.0) -> float:
        """After how many seconds it had ended, with that status, and nothing of it was left. A busy machine takes its
        time, so the limit is not the one that a user sees."""
        began = time.monotonic()
        assert self.wait(within_s) == status, self.text()
        ended = time.monotonic()
        while (left := self.left()) and time.monotonic() - ended < 20:
            time.sleep(0.2)
        assert not left, f"{left} is left of it; it said:\n{self.text()}"
        assert "Traceback" not in self.text(), self.text()
        return ended - began


class Search(Command):
    """One run of the main command. `space`: text of the file; further arguments as on the command line."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        space: str = SPACE,
        environment: dict[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.run = directory / "run"
        file = directory / "space.yaml"
        file.write_text(space)
        command = (sys.executable, "-m", "raycnn.tune", str(file), "--run", str(self.run), *arguments)
        super().__init__(self.run, *command, environment=environment, user=user)

    def trials(self) -> list[FrozenTrial]:
        return read_trials(self.run)

    def epochs(self, number: int) -> list[int]:
        """The epochs in a trial's log, in order."""
        log = self.run / "trials" / str(number) / "metrics.jsonl"
        return [json.loads(line)["epoch"] for line in log.read_text().splitlines()] if log.exists() else []

    def processes(self, title: str) -> list[int]:
        """The process ids of its Ray processes with this in their title: all that Ray starts stays in the driver's
        session, also when the driver is dead, and no other search is in it."""
        return [int(line.split()[0]) for line in self.left() if title in line]
