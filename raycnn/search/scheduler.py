"""Which trials are stopped early: asynchronous successive halving, Hyperband or the median rule, over a study's rungs.

At a rung a trial goes on if it is among the best of all that have reached it, in this process and in those before: the
values lie in the study. The best are those of the first fronts of all objectives, within a front the loneliest
(`front.ranked`); with one objective that is its order. The baseline is never stopped, and is no peer. Learning rate
schedules follow the full budget in every trial.

asha: the best 1/reduction_factor go on (Li et al. 2020, arXiv:1810.05934, in the form that stops instead of pausing).
hyperband: as asha, each trial in one of several brackets, each of which begins a rung later than the one before; the
last one stops nobody (Li et al. 2018, arXiv:1603.06560).
median: the better half goes on, at evenly spaced rungs (Golovin et al. 2017 compare running means of one objective).

Schmucker et al. 2021, arXiv:2106.12639, sort several objectives by fronts too, but within a front by an epsilon-net;
crowding keeps the ends of the front, where the best in each single objective are.
"""

import math
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raycnn.search.front import ranked
from raycnn.search.study import Study
from raycnn.spec.search import SearchSpec

LEAST_PEERS = 4  # before the median rule stops anybody


def rung_epochs(spec: SearchSpec) -> tuple[int, ...]:
    """The epochs at which trials are compared; none without a scheduler."""
    search, epochs = spec.search, spec.budget.epochs
    if search.scheduler == "none":
        return ()
    grace = search.grace_epochs or max(1, epochs // 9)
    if search.scheduler == "median":
        return tuple(range(grace, epochs, grace))
    rungs = []
    while grace < epochs:
        rungs.append(grace)
        grace *= search.reduction_factor
    return tuple(rungs)


def own_rungs(spec: SearchSpec, number: int) -> tuple[int, ...]:
    """Those at which trial `number` may be stopped."""
    rungs = rung_epochs(spec)
    return rungs[bracket(spec, number) :] if spec.search.scheduler == "hyperband" else rungs


def bracket(spec: SearchSpec, number: int) -> int:
    """The bracket of a trial: 0 begins at the first rung, the last one has no rung. All have about the same budget.

    Of a bracket that begins k rungs later there are fewer trials, for each costs more: by turns, so that shares hold
    at any time. A function of the number alone, so that a resumed search sorts as it did.
    """
    if spec.search.scheduler != "hyperband":
        return 0
    brackets = len(rung_epochs(spec)) + 1
    weights = [spec.search.reduction_factor ** (brackets - 1 - k) / (brackets - k) for k in range(brackets)]
    shares = [weight / sum(weights) for weight in weights]
    counts = [0] * brackets
    chosen = 0
    for trials in range(1, number + 1):
        chosen = max(range(brackets), key=lambda k, trials=trials: trials * shares[k] - counts[k])
        counts[chosen] += 1
    return chosen


def goes_on(own: int, values: dict[int, tuple[float, ...]], spec: SearchSpec) -> bool:
    """Whether trial `own` is among the best of its rung. values: objectives of all there, itself too, by number."""
    numbers = list(values)
    if spec.search.scheduler == "median":
        if len(numbers) <= LEAST_PEERS:
            return True
        promoted = math.ceil(len(numbers) / 2)
    else:
        promoted = math.ceil(len(numbers) / spec.search.reduction_factor)
    order = ranked([values[number] for number in numbers])
    return numbers.index(own) in order[:promoted]


def judge(study: Study, spec: SearchSpec, number: int, epoch: int, metrics: dict[str, float]) -> bool:
    """Keep a trial's metrics in the study if `epoch` is a rung; whether the trial goes on."""
    if epoch not in rung_epochs(spec):
        return True
    study.record_rung(number, epoch, metrics)
    if number == 0 or epoch not in own_rungs(spec, number):
        return True
    own = bracket(spec, number)
    peers = study.rung(epoch, spec.search.objectives)
    return goes_on(number, {n: at for n, at in peers.items() if n and bracket(spec, n) == own}, spec)


class RungScheduler(FIFOScheduler):
    """Tune's view of it; keeps the values at rungs in the study."""

    def __init__(self, study: Study, spec: SearchSpec) -> None:
        super().__init__()
        self._study, self._spec = study, spec

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "outcome" in result:
            return TrialScheduler.CONTINUE
        metrics = {name: value for name, value in result.items() if name.startswith(("val/", "cost/"))}
        on = judge(self._study, self._spec, trial.config["number"], result["epoch"], metrics)
        return TrialScheduler.CONTINUE if on else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its schedulers; the study is the state
