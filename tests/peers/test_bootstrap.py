"""The intervals that a run prints against a bootstrap of another make, from its outcomes as they lie on the disk."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_network import trained

from raycnn.data.shapes import generate
from raycnn.reporting.comparison import compare_runs
from raycnn.robustness.statistics import Comparison, Estimate

pytestmark = pytest.mark.peers
SEEDS = 4
CLOSE = 1e-4
REPLICATES = 20_000


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two models, trained four times each for unlike times, so that seeds differ; what its scoring printed."""
    folder = tmp_path_factory.mktemp("scored")
    images, labels = generate(500, 0, 0)
    models: list[str] = []
    for name, least in (("long", 6), ("short", 3)):
        for seed in range(SEEDS):
            weights = folder / f"{name}-{seed}.pt"
            torch.save(trained(seed, images, labels, epochs=least + seed // 2).state_dict(), weights)
            models += ["--model", f"{name}=small_network:small@{weights}"]
    wishes = ("data.name=shapes", "data.train_images=50", "data.test_images=300", "scoring.score=[generated-c]")
    wishes += ("scoring.generated=[brightness, contrast]",)
    command = [sys.executable, "-m", "raycnn", "score", str(folder / "run"), *models, "--device", "cpu"]
    command += [part for wish in wishes for part in ("--set", wish)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def outcomes(run: Path, files: str) -> dict[str, np.ndarray]:
    """Model -> (seeds, images): how often each image was misread, mean over severities, then over corruptions."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted(run.glob(f"outcomes/{files}")):
        rows = [row for row in pq.read_table(path).to_pylist() if row["kind"] == "wrong"]
        for model in {row["model"] for row in rows}:
            of_seeds = [
                [r["values"] for r in rows if (r["model"], r["seed"]) == (model, seed)] for seed in range(SEEDS)
            ]
            found.setdefault(model, []).append(np.mean(of_seeds, axis=1))
    return {model: np.mean(of_files, axis=0) for model, of_files in found.items()}


def errors(sides: list[np.ndarray]) -> np.ndarray:
    """Draws of the error of a sum of models' values. sides: (seeds, images) each, the second with its sign changed.

    The model is that of docs/robustness.md, by components of variance: what the seeds' own means scatter by, with
    Student's t of Welch's degrees of freedom; and what chance of images all seeds share. What an image did in one
    training alone is in the first, for the means scatter by it too.
    """
    random = np.random.default_rng(99)
    images = sides[0].shape[1]
    drawn = np.concatenate(
        [random.multinomial(images, np.full(images, 1 / images), 2000) for _ in range(0, REPLICATES, 2000)]
    )
    total = np.sum([side.mean(axis=0) for side in sides], axis=0)
    replicates = drawn @ (total - total.mean()) / images
    alone = sum(np.var(side - side.mean(axis=0), axis=1).sum() / (SEEDS - 1) / SEEDS for side in sides) / images
    replicates *= np.sqrt(1 - alone / replicates.var())
    of_seeds = [side.mean(axis=1).var(ddof=1) / SEEDS for side in sides]
    freedom = sum(of_seeds) ** 2 / sum(one**2 / (SEEDS - 1) for one in of_seeds)
    return replicates + np.sqrt(sum(of_seeds)) * random.standard_t(freedom, REPLICATES)


def agrees(ours: Estimate | Comparison, value: float, drawn: np.ndarray) -> None:
    """Ends of intervals rest on random numbers, unlike ones here and there: one of 4,000 replicates has a standard
    error of about 0.04 standard deviations of a normal distribution, and of 0.08 where Student's t has long tails."""
    low, high = value + np.quantile(drawn, [0.025, 0.975])
    allowed = 0.25 * drawn.std()
    assert allowed < 0.08 * (high - low)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=allowed)


@pytest.mark.parametrize(
    ("key", "files"),
    [("clean/error", "clean/clean.parquet"), ("generated-c/mean-2", "generated-c/*.parquet")],
)
def test_values_deviations_and_intervals_are_those_of_the_other_bootstrap(scored, key, files):
    run, printed = scored
    measure = next(one for one in compare_runs([run]).measures if one.key == key)
    of_models = outcomes(run, files)
    assert set(of_models) == {"long", "short"}
    block = printed[printed.index(f"[{key}") :]
    for model, wrong in of_models.items():
        value, deviation = wrong.mean(), wrong.mean(axis=1).std(ddof=1)
        ours = measure.estimate(model)
        assert ours.deviation is not None
        assert (ours.value, ours.deviation) == pytest.approx((value, deviation), abs=1e-6)
        line = re.search(rf"^ *{model} +([\d.]+) ± ([\d.]+) % +([\d.]+) to ([\d.]+) +4 seeds", block, re.M)
        assert line, block
        shown = [float(one) / 100 for one in line.groups()]
        assert shown == pytest.approx([value, deviation, ours.low, ours.high], abs=CLOSE)
        agrees(ours, value, errors([wrong]))
    difference = measure.compare("long", "short")
    gap = of_models["long"].mean() - of_models["short"].mean()
    assert difference.difference == pytest.approx(gap, abs=1e-6)
    agrees(difference, gap, errors([of_models["long"], -of_models["short"]]))
