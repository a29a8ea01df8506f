"""What a search tells the outside while it runs. The search prints nothing itself; `raycnn/console.py` does.

Calls may come from several threads at once. An observer never raises: nobody watching is no reason to stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One finished trial.

    kind: baseline or search. state: COMPLETE, PRUNED or FAIL. objectives: last measured errors, fractions in [0, 1],
    None where none was measured. epochs: trained, of epochs_wished. parameters: by name, of the branches taken.
    reason: why it failed, None otherwise. done: finished trials, this one included, of the wished ones.
    """

    number: int
    kind: str
    state: str
    objectives: Mapping[str, float | None]
    epochs: int
    epochs_wished: int
    seconds: float
    parameters: Mapping[str, object]
    reason: str | None
    done: int
    wished: int


class Observer(Protocol):
    """Errors are fractions in [0, 1] here as everywhere; an observer that prints may turn them into percent."""

    def header(self, lines: Mapping[str, str]) -> None:
        """Once, at the start: data, model, resources, slots, run directory, addresses of the dashboards."""
        ...

    def phase(self, name: str) -> None:
        """What begins now: starting workers, search, finals, scoring or report."""
        ...

    def trial_started(self, number: int, summary: str) -> None:
        """A trial's training begins, or goes on after its workers died. summary: its parameters in a few words."""
        ...

    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """A running trial has finished `epoch` of `epochs`."""
        ...

    def trial_finished(self, line: TrialLine) -> None:
        """A trial is COMPLETE, PRUNED or FAIL, and in the study."""
        ...

    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None:
        """Of all finals that run now, by model and seed: epochs finished, of how many."""
        ...

    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None:
        """Where the search stands. best: lowest of each objective among complete trials. eta_s: None if unknown."""
        ...

    def message(self, text: str) -> None:
        """One line for the user."""
        ...

    def warning(self, text: str) -> None:
        """One line that the user should act on."""
        ...

    def close(self) -> None:
        """No live display from here on. May be called twice."""
        ...


class Silent:
    """An observer that ignores everything."""

    def header(self, lines: Mapping[str, str]) -> None: ...
    def phase(self, name: str) -> None: ...
    def trial_started(self, number: int, summary: str) -> None: ...
    def trial_progress(self, number: int, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None: ...
    def trial_finished(self, line: TrialLine) -> None: ...
    def finals_progress(self, running: Mapping[str, tuple[int, int]]) -> None: ...
    def status(self, running: int, done: int, wished: int, best: Mapping[str, float], eta_s: float | None) -> None: ...
    def message(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def close(self) -> None: ...
