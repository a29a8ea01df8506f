"""A driver that is killed at any instant, twenty times: the study keeps what was told, and counts nothing twice."""

import random
import subprocess
import sys
import time
from pathlib import Path

from optuna.trial import TrialState

from raycnn.search.journal import FINISHED, read_trials

KILLS, TRIALS = 20, 300
SPACE = f"""
name: t
data: {{name: shapes}}
model: fastnet
budget: {{epochs: 9, batch_size: 256}}
space:
  regularizers: {{mixup: {{alpha: {{type: float, low: 0.1, high: 1.0}}}}}}
  optimizer: {{choice: {{sgd: {{lr: {{type: float, low: 0.01, high: 1.0, log: true}}}}}}}}
search: {{trials: {TRIALS}, sampler: random}}
"""
DRIVER = """
import sys, time
from pathlib import Path
from raycnn.search.rundir import held
from raycnn.search.scheduler import judge, own_rungs
from raycnn.search.study import Study
from raycnn.spec.reading import read_search

run, spec = Path(sys.argv[1]), read_search(Path(sys.argv[2]))
with held(run):
    study = Study(run, spec)
    print("ready", 0, flush=True)
    while asked := study.ask():
        print("begun", asked.number, flush=True)
        error = asked.number * 7919 % 1000 / 1000
        metrics = {"val/clean_error": error, "val/corruption_error": 1 - error}
        time.sleep(0.01)
        for epoch in own_rungs(spec, asked.number):
            if not judge(study, spec, asked.number, epoch, metrics):
                study.prune(asked.number, metrics, {"epochs": epoch})
                break
        else:
            study.complete(asked.number, metrics, {"epochs": spec.budget.epochs})
        print("told", asked.number, flush=True)
"""


def test_twenty_kills_at_random_instants_lose_nothing_and_count_nothing_twice(tmp_path: Path):
    run, space, driver = tmp_path / "run", tmp_path / "t.yaml", tmp_path / "driver.py"
    space.write_text(SPACE)
    driver.write_text(DRIVER)
    chance = random.Random(0)
    told: list[int] = []
    begun: set[int] = set()
    interrupted = 0
    for kill in range(KILLS + 1):
        with subprocess.Popen([sys.executable, driver, run, space], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            last = chance.randrange(1, 2 * TRIALS // KILLS) if kill < KILLS else None  # lines until the kill
            lines = []
            while (last is None or len(lines) < last) and (line := process.stdout.readline()):
                lines.append(line.split())
            if kill < KILLS:
                time.sleep(chance.random() * 0.02)
                process.kill()
            lines += [line.split() for line in process.stdout.read().splitlines()]
        told += [int(number) for word, number in lines if word == "told"]
        began_now = [int(number) for word, number in lines if word == "begun"]
        unfinished = begun - set(told) - set(began_now)
        begun |= set(began_now)
        by_number = {trial.number: trial for trial in read_trials(run)}
        assert all(by_number[number].state in FINISHED for number in told)
        # What was begun and not told goes on first, unless its end was written just before the kill.
        assert len(lines) < 2 or all(by_number[number].state in FINISHED for number in unfinished)
        interrupted += any(trial.state == TrialState.RUNNING for trial in by_number.values())
    assert interrupted > KILLS / 4
    assert len(told) == len(set(told))
    trials = read_trials(run)
    assert len(trials) == TRIALS
    assert all(trial.state in FINISHED for trial in trials)
    for trial in trials:
        error = trial.number * 7919 % 1000 / 1000
        assert trial.user_attrs["metrics"] == {"val/clean_error": error, "val/corruption_error": 1 - error}
        assert trial.state == TrialState.PRUNED or trial.values == [error, 1 - error]
