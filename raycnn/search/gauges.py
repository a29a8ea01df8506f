"""Where a search stands, counted by an observer in front of another one, which it tells, and Prometheus through Ray.

Names begin with ray_raycnn_ there (Ray adds its own prefix), and each has the run's name as the tag `search`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from raycnn.search.observer import Observer, TrialLine

STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL")


class Gauged:
    """Tells `observer` everything, and its status too; and Prometheus what can be counted. Ray must be connected.

    search: its name. wished: trials. finished: those of an earlier start.
    """

    def __init__(
        self, observer: Observer, search: str, wished: int, objectives: Sequence[str], finished: list[FrozenTrial]
    ) -> None:
        from ray.util.metrics import Gauge

        def gauge(name: str, description: str, *tags: str) -> Any:
            made = Gauge(f"raycnn_{name}", description=description, tag_keys=("search", *tags))
            made.set_default_tags({"search": search.encode("ascii", "backslashreplace").decode()})  # Ray takes no other
            return made

        self._observer, self._wished = observer, wished
        self._since, self._earlier = time.monotonic(), len(finished)
        self._trials = gauge("trials", "Trials of the search by state", "state")
        self._best = gauge("best", "Lowest value of an objective among complete trials", "objective")
        self._rate = gauge("images_per_second", "Images that the networks of all running trials see, each second")
        self._slots = gauge("slots", "Slots that can train")
        self._busy = gauge("slots_busy", "Slots that train a trial")
        self._counts: dict[str, int] = dict.fromkeys(STATES, 0)
        self._lowest: dict[str, float] = {}
        self._running: dict[int, tuple[float, float, float]] = {}  # images and seconds so far, images per second
        for trial in finished:  # before the search was resumed
            self._counts[trial.state.name] += 1
            if trial.state == TrialState.COMPLETE:
                self._lower(dict(zip(objectives, trial.values, strict=True)))
        self._show()

    @property
    def finished(self) -> int:
        """Trials in the study that are over."""
        return sum(count for state, count in self._counts.items() if state != "RUNNING")

    def _lower(self, values: Mapping[str, float | None]) -> None:
        for objective, value in values.items():
            if value is not None:
                self._lowest[objective] = min(value, self._lowest.get(objective, value))

    def slots(self, count: int) -> None:
        """So many slots are ready."""
        self._slots.set(count)

    def _show(self) -> None:
        for state in STATES:
            self._trials.set(len(self._running) if state == "RUNNING" else self._counts[state], {"state": state})
        self._busy.set(len(self._running))
        self._rate.set(sum(rate for *_, rate in self._running.values()))
        for objective, lowest in self._lowest.items():
            self._best.set(lowest, {"objective": objective})
        self._observer.status(len(self._running), self.finished, self._wished, self._lowest, self._left_s())

    def _left_s(self) -> float | None:
        """At the pace since this start, most of whose trials may have been stopped early; None before the third."""
        done = self.finished - self._earlier
        return (self._wished - self.finished) * (time.monotonic() - self._since) / done if done > 2 else None

    def trial_started(self, number: int, summary: str) -> None:
        self._running[number] = (0.0, 0.0, 0.0)
        self._show()
        self._observer.trial_started(number, summary)

    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        if number in self._running and "cost/images" in metrics:
            images, seconds, _ = self._running[number]
            now = metrics["cost/images"], metrics["cost/seconds"]
            rate = (now[0] - images) / (now[1] - seconds) if now[1] > seconds else 0.0
            self._running[number] = (*now, rate)
        self._show()
        self._observer.trial_progress(number, epoch, epochs, metrics)

    def trial_finished(self, line: TrialLine) -> None:
        self._running.pop(line.number, None)
        self._counts[line.state] += 1
        if line.state == "COMPLETE":
            self._lower(line.objectives)
        self._show()
        self._observer.trial_finished(line)

    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None:
        self._observer.finals_progress(running)

    def header(self, lines: Mapping[str, str]) -> None:
        self._observer.header(lines)

    def phase(self, name: str) -> None:
        self._observer.phase(name)

    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None:
        self._observer.status(running, done, wished, best, eta_s)

    def message(self, text: str) -> None:
        self._observer.message(text)

    def warning(self, text: str) -> None:
        self._observer.warning(text)

    def close(self) -> None:
        self._observer.close()
