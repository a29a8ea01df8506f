"""A run directory as a search leaves it, made up: what the report is tested on and looked at with.

python tests/reporting/synthetic.py DIRECTORY        # makes one and its report
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML
from scipy import stats

from raycnn.robustness.attacks import EPSILONS
from raycnn.robustness.corruptions import CORRUPTIONS, SEVERITIES
from raycnn.robustness.metrics import MFP_PERTURBATIONS
from raycnn.robustness.results import Results, Row, Scored
from raycnn.robustness.units import Unit
from raycnn.search.front import finalists
from raycnn.search.journal import JOURNAL, open_storage
from raycnn.search.samplers import distribution
from raycnn.search.study import baseline_spec
from raycnn.search.table import write_trials
from raycnn.spec.reading import search_from_text, trial_spec
from raycnn.spec.search import SearchSpec
from raycnn.spec.space import FloatRange, IntRange, Options, Parameter, resolve

SPEC = """
name: joint
data: {name: %(data)s, validation: 5000}
model: resnet18
budget: {epochs: %(epochs)d, batch_size: 512}
space:
  regularizers:
    cutout:
      choice:
        off: {}
        on: {holes: {type: int, low: 1, high: 4}, size_px: {type: int, low: 2, high: 20, step: 2}}
    mixup: {choice: {off: {}, on: {alpha: {type: float, low: 0.05, high: 2.0, log: true}}}}
    rotation: {choice: {off: {}, on: {weight: {type: float, low: 0.1, high: 1.0}}}}
  optimizer:
    choice:
      sgd:
        lr: {type: float, low: 0.01, high: 1.0, log: true}
        momentum: {type: float, low: 0.8, high: 0.98}
        weight_decay: {type: float, low: 1e-5, high: 1e-2, log: true}
      adamw:
        lr: {type: float, low: 1e-4, high: 1e-2, log: true}
        weight_decay: {type: float, low: 1e-3, high: 1.0, log: true}
search: {trials: %(trials)d, objectives: [%(objectives)s]}
finals: %(finals)s
"""
BEGAN = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)


@dataclass(frozen=True)
class Wish:
    """What kind of run. corruptions: scored ones; effect: how much lower the finalists' errors are, a factor."""

    trials: int = 40
    epochs: int = 30
    seeds: int = 3
    top: int = 2
    objectives: tuple[str, ...] = ("val/clean_error", "val/corruption_error")
    data: str = "shapes"
    verified: bool = True
    finals: bool = True
    scored: bool = True
    corruptions: tuple[str, ...] = CORRUPTIONS
    corruption_set: str = "cifar-10-c"
    perturbations: bool = True
    images: int = 1000
    effect: float = 0.85
    seed: int = 0


def make_run(run: Path, wish: Wish = Wish()) -> Path:
    """Fill the directory `run`; everything but report.html."""
    rng = np.random.default_rng(wish.seed)
    run.mkdir(parents=True, exist_ok=True)
    finals = f"{{top: {wish.top}, seeds: {wish.seeds}, score: [cifar10-c]}}" if wish.finals else "off"
    values = {"data": wish.data, "epochs": wish.epochs, "trials": wish.trials, "finals": finals}
    spec = search_from_text(SPEC % (values | {"objectives": ", ".join(wish.objectives)}), "synthetic")
    with (run / "spec.yaml").open("w") as file:
        YAML().dump(json.loads(spec.model_dump_json(exclude_none=True)), file)
    study = optuna.create_study(
        storage=open_storage(run / JOURNAL), study_name=spec.name, directions=["minimize" for _ in wish.objectives]
    )
    trials = [_trial(number, spec, run, rng) for number in range(wish.trials)]
    study.add_trials(trials)
    write_trials(run)
    _manifest(run, wish)
    if wish.finals:
        best = finalists(trials, wish.top)
        _finals(run, spec, ["baseline", *(f"trial-{trial.number:03d}" for trial in best)], wish, rng)
    return run


def _trial(number: int, spec: SearchSpec, run: Path, rng: np.random.Generator) -> FrozenTrial:
    epochs = spec.budget.epochs
    params: dict[str, Any] = {}
    forms: dict[str, Any] = {}

    def suggest(name: str, form: Parameter) -> Any:
        forms[name] = distribution(form)
        params[name] = _draw(form, rng)
        return params[name]

    resolved = baseline_spec(spec)
    if number:
        resolved = trial_spec(spec, resolve(spec.space, suggest), seed=int(rng.integers(2**31)))
    quality = _quality(params) * math.exp(0.05 * rng.normal())
    diverges = params.get("optimizer.sgd.lr", 0) > 0.5
    rung = next((r for r in (epochs // 9, epochs // 3) if number and r and quality > 1.1 - 0.3 * r / epochs), epochs)
    stops = min(rung, 3) if diverges else rung
    # Mixup and rotation help with corruptions more than with clean images, large squares the other way round.
    robust = 0.9 ** (params.get("mixup") == "on") * 0.88 ** (params.get("rotation") == "on")
    robust *= (1 + 0.01 * params.get("cutout.size_px", 0)) * math.exp(0.02 * rng.normal())
    wanted = spec.search.objectives
    curve = [_record(epoch, epochs, quality, robust, stops, wanted, rng) for epoch in range(1, stops + 1)]
    _write_jsonl(run / "trials" / str(number) / "metrics.jsonl", curve)
    state = TrialState.FAIL if diverges else TrialState.COMPLETE if stops == epochs else TrialState.PRUNED
    metrics = {name: value for record in curve for name, value in record["metrics"].items()}
    seconds = stops * 11.3 * (1.7 if params.get("rotation") == "on" else 1)
    start = BEGAN + timedelta(seconds=number * 95 + 10)
    known = {
        "kind": "search" if number else "baseline",
        "spec": resolved.model_dump_json(),
        "metrics": metrics,
        "epochs": stops,
        "images": stops * 87 * 512,
        "seconds": seconds,
    }
    if diverges:
        known["reason"] = "epoch 4: the training loss is nan at learning rate 0.51. Lower it."
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=[metrics[name] for name in spec.search.objectives] if state == TrialState.COMPLETE else None,
        datetime_start=start.replace(tzinfo=None),
        datetime_complete=(start + timedelta(seconds=seconds)).replace(tzinfo=None),
        params=params,
        distributions=forms,
        user_attrs=known,
        system_attrs={},
        intermediate_values={},
    )


def _draw(form: Parameter, rng: np.random.Generator) -> Any:
    if isinstance(form, Options):
        return form.choice[int(rng.integers(len(form.choice)))]
    if isinstance(form, IntRange):
        return int(rng.choice(range(form.low, form.high + 1, form.step)))
    assert isinstance(form, FloatRange)
    low, high = (math.log(form.low), math.log(form.high)) if form.log else (form.low, form.high)
    value = float(rng.uniform(low, high))
    return math.exp(value) if form.log else value


def _quality(params: dict[str, Any]) -> float:
    """The factor on a trial's errors: 1 for the baseline."""
    if not params:
        return 1.0
    factor = 0.93 if params["cutout"] == "on" else 1.0
    factor *= 1 + 0.004 * (params.get("cutout.size_px", 8) - 8) ** 2 / 8
    factor *= 0.95 if params["mixup"] == "on" else 1.0
    factor *= 0.94 if params["rotation"] == "on" else 1.0
    factor *= 1.1 if params["optimizer"] == "adamw" else 1.0
    lr = params.get("optimizer.sgd.lr", params.get("optimizer.adamw.lr", 0) * 100)
    return factor * (1 + 0.12 * math.log10(lr / 0.12) ** 2 * 2)


def _record(
    epoch: int, epochs: int, quality: float, robust: float, stops: int, objectives: Any, rng: np.random.Generator
) -> dict[str, Any]:
    done = epoch / epochs
    error = quality * (0.062 + 0.5 * math.exp(-9 * done)) + 0.004 * (1 - done) * rng.normal()
    metrics = {"val/clean_error": error, "val/clean_loss": 4.1 * error + 0.02}
    if "val/corruption_error" in objectives and epoch in (epochs // 9, epochs // 3, epochs, stops):
        metrics["val/corruption_error"] = robust * (0.13 + 1.25 * error)
    lr = 0.1 * math.cos(math.pi / 2 * done)
    loss = 0.05 + 1.6 * math.exp(-5 * done) * quality
    times = {"train_s": 10.2, "evaluate_s": 1.1}
    return {"epoch": epoch, "images": epoch * 44544, "lr": lr, "train_loss": loss, "metrics": metrics, **times}


def _finals(run: Path, spec: SearchSpec, models: list[str], wish: Wish, rng: np.random.Generator) -> None:
    results = Results(run)
    for model in models:
        factor = 1.0 if model == "baseline" else wish.effect * (1 + 0.03 * models.index(model))
        for seed in range(wish.seeds):
            records = [_record(e, wish.epochs, factor, 1, wish.epochs, [], rng) for e in range(1, wish.epochs + 1)]
            folder = run / "finals" / model / f"seed-{seed}"
            _write_jsonl(folder / "metrics.jsonl", [record | {"metrics": {}} for record in records])
            if wish.scored:
                for one in _scores(model, seed, factor * math.exp(0.015 * rng.normal()), wish, rng):
                    row = one.row
                    results.add(Unit(row.set, row.name, row.n, (row.name,)), [one])
    if wish.scored:
        results.save()


def _scores(model: str, seed: int, factor: float, wish: Wish, rng: np.random.Generator) -> Iterator[Scored]:
    """Some images are hard for all, more so than others are for one network or another."""
    difficulty = np.random.default_rng(8).normal(size=wish.images)

    def scored(of: str, name: str, severity: int | None, error: float) -> Scored:
        hardness = 0.8 * difficulty + 0.6 * rng.normal(size=wish.images)
        wrong = hardness > stats.norm.isf(min(max(error, 1e-3), 0.95))
        row = Row(model, seed, of, name, severity, wish.images, int(wrong.sum()), None, 4 * error, 0.03, 0.04)
        confidence = {"confidence": np.clip(0.98 - 0.3 * (hardness > 0.5), 0.1, 1)} if severity == 0 else {}
        return Scored(row, {"wrong": wrong, **confidence})

    yield scored("clean", "clean", 0, 0.055 * factor)
    hardness = np.random.default_rng(7).uniform(0.5, 2.2, len(CORRUPTIONS))
    for name, hard in zip(CORRUPTIONS, hardness, strict=True):
        if name in wish.corruptions:
            gain = factor if "noise" not in name else factor**0.2
            for severity in SEVERITIES:
                yield scored(wish.corruption_set, name, severity, 0.055 + 0.05 * hard * severity * gain)
    for index, name in enumerate(
        (*MFP_PERTURBATIONS, "speckle_noise", "gaussian_noise_2") if wish.perturbations else ()
    ):
        flips = np.clip((0.015 + 0.006 * (index * 5 % 7)) * factor * np.exp(rng.normal(size=wish.images)), 0, 1)
        mean = float(flips.mean())
        row = Row(
            *(model, seed, "cifar-10-p", name, None, wish.images),
            flip_probability=mean,
            top5_distance=10 * mean,
            zipf_distance=3 * mean,
        )
        yield Scored(row, {"flips": flips, "top5": 10 * flips, "zipf": 3 * flips})
    for epsilon in EPSILONS:
        for attack, strength in (("fgsm", 0.22), ("pgd", 0.5)):
            error = 1 - (1 - 0.055) * math.exp(-strength * epsilon * 255 * factor)
            yield scored(attack, f"eps={epsilon:.4f}", None, error)


def _manifest(run: Path, wish: Wish) -> None:
    manifest = {
        "started": BEGAN.isoformat(),
        "finished": (BEGAN + timedelta(hours=2, minutes=31)).isoformat(),
        "raycnn": "0.1.0",
        "python": "3.11.2",
        "torch": "2.14.0",
        "ray": "2.60.0",
        "optuna": "5.0.0",
        "hardware": {"cpu": "AMD EPYC 7763 64-Core Processor", "gpus": ["NVIDIA H100 80GB HBM3"], "nodes": 1},
        "data": {
            "name": wish.data,
            "digest": "3f1c9a52b7d0e4861a7702fd41c5b09e",
            "verified": wish.verified,
            "split_digest": "a1b2c3d4e5f60718",
            "train": 45_000,
            "validation": 5_000,
            "test": 10_000,
            "directory": str(run / "absent"),
        },
        "slots": 4,
        "workers": 1,
        "benchmarks": {"CIFAR-10-C": "generated by raycnn 0.1.0, seed 0; frost: procedural ice"},
        "seeds": {"search": 0, "split": 0},
        "command": "python -m raycnn.tune search_spaces/joint.yaml --data data --run runs/joint",
        "git": {"commit": "d17cc19f0a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d", "dirty": True},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))


def _write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


if __name__ == "__main__":
    from raycnn.reporting.page import write_report

    print(write_report(make_run(Path(sys.argv[1]))))
