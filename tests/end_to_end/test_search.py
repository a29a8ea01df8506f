"""The whole job on generated images, as a user runs it: search, finals, scoring job, report; interrupted and killed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import torch
from command import Search
from optuna.trial import TrialState

from raycnn.robustness.results import read_outcomes
from raycnn.training.checkpoint import load_classifier

MORE = ("--trials", "8")  # for what is killed again and again
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def states(search: Search) -> dict[int, TrialState]:
    return {trial.number: trial.state for trial in search.trials()}


def ended(search: Search) -> dict[int, TrialState]:
    return {number: state for number, state in states(search).items() if state in FINISHED}


def until_an_epoch_ends(search: Search) -> None:
    """One that its driver has seen, not one before it."""

    def epochs() -> int:
        return sum(len(search.epochs(number)) for number in states(search))

    before = epochs()
    search.until(lambda: "\nsearch\n" in search.text() and epochs() > before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = Search(tmp_path_factory.mktemp("whole"))
    assert search.wait() == 0, search.text()
    return search


def test_search_ends_with_the_wished_number_of_trials_and_a_report(whole):
    assert len(states(whole)) == 6
    assert set(states(whole).values()) <= set(FINISHED)
    assert whole.text().splitlines()[-1] == f"Report: {whole.run / 'report.html'}"
    assert "shapes" in (whole.run / "report.html").read_text()


def test_baseline_is_complete_with_all_objectives(whole):
    baseline = whole.trials()[0]
    assert baseline.state == TrialState.COMPLETE
    assert baseline.user_attrs["kind"] == "baseline"
    assert len(baseline.values) == 2


def test_screen_shows_a_line_per_trial_and_no_chatter(whole):
    lines = whole.text().splitlines()
    for done in range(1, 7):
        assert sum(line.startswith(f"{done}/6 ") for line in lines) == 1, whole.text()
    assert not [line for line in lines if "raylet" in line or "Warning" in line or "INFO" in line], whole.text()


def test_robustness_of_every_model_and_seed_is_in_the_long_table(whole):
    rows = pd.read_parquet(whole.run / "robustness.parquet")
    assert rows.groupby(["model", "seed"]).size().tolist() == [11] * 4  # clean, two corruptions at five severities
    assert "baseline" in set(rows["model"])
    outcomes = pd.read_parquet(whole.run / "outcomes" / "generated-c" / "brightness.parquet")
    brightness = rows[rows["name"] == "brightness"].set_index(["model", "seed", "severity"])["errors"]
    assert outcomes["values"].map(sum).tolist() == [
        brightness[place] for place in zip(outcomes["model"], outcomes["seed"], outcomes["severity"], strict=True)
    ]


def test_the_manifest_says_when_test_images_were_opened_and_what_for(whole):
    manifest = json.loads((whole.run / "manifest.json").read_text())
    (opening,) = manifest["openings"]
    assert opening["reason"] == "scoring of the finals"
    last_final = max(path.stat().st_mtime for path in whole.run.glob("finals/*/seed-*/checkpoint.pt"))
    assert datetime.fromisoformat(opening["time"]).timestamp() >= int(last_final)


PEEPING = """
import sys
from pathlib import Path
from raycnn.models.fastnet import FastNet

def network(image_px):
    if ("raycnn.tune" in sys.orig_argv) == {in_driver}:
        from raycnn.data.sources import load
        from raycnn.spec.data import DataSpec
        load(DataSpec(name="shapes", validation=200, train_images=1400, test_images=200)).open_test()
    return FastNet(image_px)
"""


@pytest.mark.parametrize("in_driver", [True, False])
def test_neither_the_driver_nor_a_worker_of_a_search_can_open_test_images(tmp_path, monkeypatch, in_driver):
    """By a model of the user's own, the way into both."""
    (tmp_path / "peeping.py").write_text(PEEPING.format(in_driver=in_driver))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    search = Search(tmp_path, "--set", "model=peeping:network", "--set", "search.trials=1", "--set", "finals=off")
    code = search.wait()
    assert "is sealed, for a search must not see test images" in search.text(), search.text()
    assert code == 2 or [trial.state for trial in search.trials()] == [TrialState.FAIL]


def test_finals_train_on_all_images_with_the_same_seeds_for_all_models(whole):
    rows = json.loads((whole.run / "finals" / "finalists.json").read_text())
    seeds = {row["model"]: set() for row in rows}
    for row in rows:
        seeds[row["model"]].add(row["seed"])
    assert len(seeds) == 2
    assert len({frozenset(s) for s in seeds.values()}) == 1
    log = (whole.run / rows[0]["directory"] / "metrics.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["images"] == 4 * 1400


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "raycnn", *arguments], capture_output=True, text=True)


def test_a_trial_is_reproduced_bit_for_bit(whole):
    done = run_command("reproduce", str(whole.run), "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Reproduced: all 4 epochs are equal bit for bit."
    assert run_command("reproduce", str(whole.run), "77").returncode == 2


def test_a_trial_that_was_otherwise_is_told(whole, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(whole.run, copied)
    log = copied / "trials" / "0" / "metrics.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records[1]["metrics"]["val/clean_error"] += 0.005
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = run_command("reproduce", str(copied), "0")
    assert done.returncode == 1
    assert "Not bit for bit: 1 of 4 epochs differ, errors by at most 0.50 points. The first: epoch 2" in done.stdout


def test_a_finalist_is_exported_and_answers_as_it_did_here(whole, tmp_path):
    done = run_command("export", str(whole.run), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "model.json",
        "model.pt2",
        "model.safetensors",
    ]
    card = (tmp_path / "README.md").read_text()
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["source"].endswith("training 0")
    assert "| test images: error |" in card
    assert "disc" in card
    model = facts["source"].partition(",")[0]
    classifier = load_classifier(whole.run / "finals" / model / "seed-0" / "checkpoint.pt")
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        answers = torch.export.load(tmp_path / "model.pt2").module()(images)
        torch.testing.assert_close(answers, classifier(images), rtol=1e-4, atol=1e-4)
    wrong = run_command("export", str(whole.run), "--model", "trial-999")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "the finals have no trial-999. Choose from baseline, trial-" in wrong.stderr


@pytest.mark.slow
def test_the_factorial_at_the_optimum_is_trained_scored_and_resumed(whole, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(whole.run, copied)
    done = run_command("ablate", str(copied), "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert "test images: error  [clean/error, 200 images, 2 seeds]" in done.stdout
    rows = pd.read_parquet(copied / "ablation" / "effects.parquet")
    factors = set(rows["effect"])
    assert factors <= {"cutout", "mixup", "cutout x mixup"}
    cells = pd.read_parquet(copied / "ablation" / "robustness.parquet").groupby("model")["seed"].nunique()
    assert set(cells) == {2}
    # The effect of the first factor, by hand.
    outcomes = read_outcomes(copied / "ablation")["clean", "clean", 0, "wrong"]
    factor = min(factors, key=len)
    on = [values.mean() for (model, _), values in outcomes.items() if factor in model.split("+")]
    off = [values.mean() for (model, _), values in outcomes.items() if factor not in model.split("+")]
    effect = rows[(rows["measure"] == "clean/error") & (rows["effect"] == factor)]["difference"].item()
    assert effect == pytest.approx(sum(on) / len(on) - sum(off) / len(off), abs=1e-6)
    again = run_command("ablate", str(copied), "--seeds", "2")
    assert again.returncode == 0
    assert "everything is scored already" in again.stdout
    assert "final 1/" not in again.stdout


def test_same_command_on_a_finished_run_trains_nothing_again(whole):
    before = (whole.run / "study.journal").read_bytes()
    again = Search(whole.run.parent)
    assert again.wait() == 0, again.text()
    assert (whole.run / "study.journal").read_bytes() == before
    assert "everything is scored already" in again.text()


def test_a_second_driver_on_the_same_run_is_refused_and_told_who_holds_it(tmp_path: Path):
    first = Search(tmp_path)
    first.until(lambda: (first.run / "run.holder.json").exists())
    second = Search(tmp_path)
    assert second.wait() == 2
    assert f"is held by process {first.process.pid} on " in second.text()
    first.until(lambda: "\nsearch\n" in first.text())
    first.signal(signal.SIGTERM)
    assert first.wait() == 130, first.text()
    assert not list(tmp_path.glob("run/*.part"))


def test_sigterm_while_ray_starts_is_an_interrupt(tmp_path: Path):
    search = Search(tmp_path)
    search.until(lambda: search.processes("/gcs_server"))
    search.signal(signal.SIGTERM)
    assert search.wait() == 130, search.text()
    assert "Resume with:" in search.text()


def test_another_search_in_the_same_directory_is_refused(whole):
    other = Search(whole.run.parent, "--set", "budget.epochs=5")
    assert other.wait() == 2
    assert "budget.epochs was 4 and is now 5" in other.text()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_rank_driver_and_interrupt_lose_and_repeat_nothing(tmp_path: Path):
    search = Search(tmp_path, *MORE)
    # A worker rank, in the middle of a trial.
    search.until(lambda: search.epochs(1))
    search.until(lambda: [s for s in states(search).values() if s in FINISHED] or search.epochs(0)[1:])
    victim = search.until(lambda: search.processes("ray::trial-"))[0]
    os.kill(victim, signal.SIGKILL)
    finished = search.until(lambda: ended(search))
    # Tune's own actors, which forward what the workers report.
    for forwarder in search.until(lambda: search.processes("ray::ImplicitFunc")):
        os.kill(forwarder, signal.SIGKILL)
    finished = search.until(lambda: now if len(now := ended(search)) > len(finished) else {})
    # The driver, twice at random instants after an epoch of its own.
    chance = random.Random(0)
    for kill in range(2):
        until_an_epoch_ends(search)
        time.sleep(chance.random())
        search.kill()
        search.wait()
        for number, state in finished.items():
            assert states(search)[number] == state
        finished |= ended(search)
        for _ in range(600):  # looks, not seconds: the whole machine may have stood still
            if not search.processes("ray::trial-"):
                break
            time.sleep(0.2)
        if workers := search.processes("ray::trial-"):
            told = subprocess.run(["ps", "-eLo", "pid,ppid,sid,stat,wchan,etime,args"], capture_output=True, text=True)
            pytest.fail(f"workers {workers} outlive their killed driver ({kill}):\n{told.stdout}")
        if kill < 1:
            search = Search(tmp_path, *MORE)
    # Resumed, and interrupted while its slots start.
    search = Search(tmp_path, *MORE)
    search.until(lambda: "\nsearch\n" in search.text())
    interrupted = time.monotonic()
    search.ctrl_c()
    assert search.wait() == 130, search.text()
    assert time.monotonic() - interrupted < 30
    assert re.search(r"Resume with:\n  \S*python -m raycnn.tune ", search.text()), search.text()
    # Resumed to the end.
    search = Search(tmp_path, *MORE)
    assert search.wait() == 0, search.text()
    assert len(states(search)) == 8
    assert set(states(search).values()) <= {TrialState.COMPLETE, TrialState.PRUNED}
    for number, state in finished.items():
        assert states(search)[number] == state
    for number in states(search):
        epochs = search.epochs(number)
        assert epochs == list(range(1, len(epochs) + 1)), f"trial {number} logged {epochs}"


def test_failing_trials_are_told_with_their_reason_and_the_search_goes_on(tmp_path: Path):
    from command import SPACE

    wild = SPACE.replace("low: 0.02, high: 0.5, log: true}", "low: 99, high: 100}, weight_decay: 10")
    wild = wild.replace("trials: 6", "trials: 3").replace("seeds: 2", "seeds: 1")
    search = Search(tmp_path, space=wild)
    code = search.wait()
    failed = [trial for trial in search.trials() if trial.state == TrialState.FAIL]
    assert [trial.number for trial in failed] == [1, 2], search.text()
    assert all("training loss is" in trial.user_attrs["reason"] for trial in failed), failed
    assert search.trials()[0].state == TrialState.COMPLETE
    assert code == 0
    assert "no more trials ran to their end" in search.text()
