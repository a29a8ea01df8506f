"""How much each parameter mattered for each objective."""

import warnings
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from raycnn.run_files import read_spec
from raycnn.search.journal import read_trials

ENOUGH = 8  # completed trials


def importances(directory: Path) -> dict[str, dict[str, float]]:
    """By objective, the share of each parameter, most important first.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255) over the completed trials of a run directory; empty with fewer
    than eight of them: too few to say.
    """
    done = [t for t in read_trials(directory) if t.state == TrialState.COMPLETE and t.user_attrs["kind"] == "search"]
    if len(done) < ENOUGH:
        return {}
    names = read_spec(directory).search.objectives
    study = optuna.create_study(directions=["minimize" for _ in names])
    study.add_trials(done)
    return {name: _shares(study, index) for index, name in enumerate(names)}


def _shares(study: optuna.Study, index: int) -> dict[str, float]:
    def target(trial: FrozenTrial) -> float:
        return trial.values[index]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental, and that it takes the best tenth
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
