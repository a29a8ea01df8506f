"""Asynchronous successive halving (ASHA, Li et al. 2020, arXiv:1810.05934), the stopping form, over the study's rungs.

At a rung a trial goes on if it is among the best 1/reduction_factor of all that have reached it so far, in this process
and in those before: the values lie in the study. The baseline is never stopped, and is no peer. Learning rate schedules
follow the full budget in every trial.
"""

import math
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raycnn.search.study import Study
from raycnn.spec.search import SearchSpec


def rung_epochs(spec: SearchSpec) -> tuple[int, ...]:
    """The epochs at which trials are compared; none without a scheduler."""
    if spec.search.scheduler == "none":
        return ()
    grace = spec.search.grace_epochs or max(1, spec.budget.epochs // 9)
    rungs = []
    while grace < spec.budget.epochs:
        rungs.append(grace)
        grace *= spec.search.reduction_factor
    return tuple(rungs)


def goes_on(value: float, peers: list[float], reduction_factor: int) -> bool:
    """Whether a trial is among the best 1/reduction_factor (rounded up) of its rung. peers: all there, itself too."""
    promoted = math.ceil(len(peers) / reduction_factor)
    return value <= sorted(peers)[promoted - 1]


class Asha(FIFOScheduler):
    """Tune's view of it; keeps the values at rungs in the study."""

    def __init__(self, study: Study, spec: SearchSpec) -> None:
        super().__init__()
        self._study, self._rungs = study, rung_epochs(spec)
        self._metric, self._factor = spec.search.objectives[0], spec.search.reduction_factor

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        epoch, number = result["epoch"], trial.config["number"]
        if "outcome" in result or epoch not in self._rungs:
            return TrialScheduler.CONTINUE
        self._study.record_rung(number, epoch, {k: v for k, v in result.items() if k.startswith("val/")})
        if number == 0:
            return TrialScheduler.CONTINUE
        peers = self._study.rung(epoch, self._metric)
        own = peers[number]
        peers.pop(0, None)
        going = goes_on(own, list(peers.values()), self._factor)
        return TrialScheduler.CONTINUE if going else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its schedulers; the study is the state
