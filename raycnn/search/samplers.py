"""Optuna's samplers, as a search asks them."""

import math
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from raycnn.search.journal import experimental
from raycnn.search.seeds import derived_seed
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import FloatRange, IntRange, Parameter, parameters

WANT_ALL = ("gp", "nsgaii", "nsgaiii", "cmaes", "qmc")
"""Samplers that are asked for the parameters of all branches, for their models know no conditions."""


def make_sampler(spec: SearchSpec, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of that name."""
    # A resumed search goes on with other random numbers, or it would ask for its first trials again.
    seed = derived_seed(spec.search.seed, f"sampler from trial {trials_so_far}")
    startup, population = spec.search.startup_trials, spec.search.population
    with experimental():
        match spec.search.sampler:
            case "tpe":
                return _ExploringTpe(
                    spec.search.random_fraction,
                    n_startup_trials=startup,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    gamma=_good_trials,
                    seed=seed,
                )
            case "gp":
                return optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed)
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
            case "nsgaiii":
                return optuna.samplers.NSGAIIISampler(population_size=population, seed=seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(n_startup_trials=startup, seed=seed)
            case "qmc":
                # The sequence goes on where it was, also after a resume: its seed is the search's.
                return _WholeSpaceQmc(spec)
            case _:
                return optuna.samplers.RandomSampler(seed=seed)


def distribution(form: Parameter) -> BaseDistribution:
    """Optuna's form of a parameter."""
    if isinstance(form, FloatRange):
        return FloatDistribution(form.low, form.high, log=form.log, step=form.step)
    if isinstance(form, IntRange):
        return IntDistribution(form.low, form.high, log=form.log, step=form.step)
    return CategoricalDistribution(form.choice)


class _WholeSpaceQmc(optuna.samplers.QMCSampler):
    """Optuna's takes its dimensions from the first finished trial. Here that is the baseline, which has none."""

    def __init__(self, spec: SearchSpec) -> None:
        super().__init__(seed=spec.search.seed, scramble=True, warn_independent_sampling=False)
        self._space = {named.name: distribution(named.parameter) for named in parameters(spec.space)}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space


class _ExploringTpe(optuna.samplers.TPESampler):
    """TPE that draws a fraction of the trials at random, whatever it has seen: alone it can settle where noise once was
    kind, and stay. As BOHB does (Falkner et al. 2018, arXiv:1807.01774)."""

    def __init__(self, random_fraction: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._random_fraction = random_fraction

    def _at_random(self, trial: FrozenTrial) -> bool:
        before, after = (math.floor(n * self._random_fraction) for n in (trial.number, trial.number + 1))
        return after > before

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {} if self._at_random(trial) else super().sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._random_sampler if self._at_random(trial) else super()
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def _good_trials(trials: int) -> int:
    """How many of so many finished trials TPE takes for good ones.

    Optuna's tenth is made for searches that stop nobody. Where the scheduler lets about one in nine run to its end, it
    would be all of those: good and bad alike. A twentieth did better in six of seven comparisons by
    scripts/bench/search (development seeds 0 to 9), each of them within its noise.
    """
    return max(math.ceil(trials / 20), min(3, math.ceil(trials / 10)))
