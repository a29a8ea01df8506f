"""Samplers model the whole space beside a baseline that has no parameters."""

import math
from pathlib import Path

import pytest

from raycnn.search.study import Study
from raycnn.spec.reading import read_search, search_from_text
from raycnn.spec.space import FloatRange, parameters

POINTS = 16


def test_points_after_the_baseline_fill_every_stratum(tmp_path: Path) -> None:
    spec = read_search(Path("search_spaces/joint.yaml"), ["search.sampler=qmc", f"search.trials={POINTS}"])
    study = Study(tmp_path, spec)
    errors = dict.fromkeys(map(str, spec.search.objectives), 0.5)
    for number in range(POINTS):
        asked = study.ask()
        assert asked
        assert asked.number == number
        study.complete(number, errors, {})
    drawn = [trial.params for trial in study.trials() if trial.params]
    assert len(drawn) == POINTS - 1  # the baseline took the first point of the sequence
    for named in parameters(spec.space):
        form = named.parameter
        if isinstance(form, FloatRange) and not form.step:
            low, high = (math.log(end) if form.log else end for end in (form.low, form.high))
            values = [math.log(point[named.name]) if form.log else point[named.name] for point in drawn]
            strata = {min(POINTS - 1, int((value - low) / (high - low) * POINTS)) for value in values}
            assert len(strata) == POINTS - 1, named.name


@pytest.mark.parametrize("sampler", ["gp", "nsgaii", "nsgaiii"])
def test_after_the_baseline_every_parameter_is_modelled(tmp_path: Path, sampler: str) -> None:
    settings = [f"search.sampler={sampler}", "search.startup_trials=3", "search.population=3", "search.trials=20"]
    spec = read_search(Path("search_spaces/joint.yaml"), settings)
    study = Study(tmp_path, spec)
    for number in range(6):
        asked = study.ask()
        assert asked
        study.complete(asked.number, dict.fromkeys(map(str, spec.search.objectives), 0.5 - number / 20), {})
    modelled = study._study.sampler.infer_relative_search_space(study._study, study.trials()[-1])
    assert modelled.keys() == {named.name for named in parameters(spec.space)}
    assert [trial.number for trial in study.trials()] == list(range(6))


NUMBERS = """
name: numbers
data: {name: shapes}
model: fastnet
budget: {epochs: 3, batch_size: 256}
space:
  regularizers: {mixup: {alpha: {type: float, low: 0.1, high: 1.0}}}
  optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0, log: true}, momentum: {type: float, low: 0, high: 0.9}}}
search: {trials: 20, sampler: cmaes, objectives: [val/clean_error], startup_trials: 3}
"""


def test_the_evolution_strategy_models_every_number(tmp_path: Path) -> None:
    spec = search_from_text(NUMBERS, "NUMBERS")
    study = Study(tmp_path, spec)
    for number in range(12):
        asked = study.ask()
        assert asked
        study.complete(asked.number, {"val/clean_error": 0.5 - number / 20}, {})
    modelled = study._study.sampler.infer_relative_search_space(study._study, study.trials()[-1])
    assert modelled.keys() == {named.name for named in parameters(spec.space)}
    generations = [key for trial in study.trials() for key in trial.system_attrs if key.startswith("cma:")]
    assert generations, "it draws at random"


@pytest.mark.parametrize("fraction", [0, 0.25, 1])
def test_a_fraction_of_the_trials_is_drawn_at_random(tmp_path: Path, fraction: float) -> None:
    """Low learning rates are best: those that are drawn by what was seen are low, the others are anything."""
    spec = search_from_text(NUMBERS.replace("sampler: cmaes", f"random_fraction: {fraction}"), "NUMBERS")
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"trials": 120})})
    study = Study(tmp_path, spec)
    rates: dict[int, float] = {}
    for _ in range(120):
        asked = study.ask()
        assert asked
        error = 0.5
        if asked.number:
            rates[asked.number] = math.log10(asked.parameters["optimizer.sgd.lr"])  # -2 to 0
            error = 0.5 + rates[asked.number] / 10
        study.complete(asked.number, {"val/clean_error": error}, {})
    late = {number: rate for number, rate in rates.items() if number >= 60}
    anything = [rate for number, rate in late.items() if fraction and number % round(1 / fraction) == 1 / fraction - 1]
    guided = [rate for rate in late.values() if rate not in anything]
    assert len(anything) == 60 * fraction
    if anything:
        assert max(anything) - min(anything) > 1.4
        assert -1.4 < sum(anything) / len(anything) < -0.6
    if guided:
        assert sum(guided) / len(guided) < -1.7
