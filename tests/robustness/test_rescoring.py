"""Scores are taken for those of what is asked for now only where images, precision and network are the same."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from raycnn.data.dataset import ImageSet
from raycnn.data.sources import load
from raycnn.data.split import stratified_split
from raycnn.models.trust import trusted
from raycnn.robustness.archives import open_corruptions
from raycnn.robustness.fingerprints import of_images, of_weights
from raycnn.robustness.imagenet_c import open_imagenet_c
from raycnn.robustness.results import Key, Results, Row, Scored, read_outcomes, read_rows
from raycnn.robustness.summary import measures
from raycnn.robustness.units import Unit, score_all
from raycnn.search import scoring
from raycnn.spec.reading import read_search
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.loop import train
from raycnn.training.resident import training_data

CPU = torch.device("cpu")
CLEAN = Unit("clean", "clean", 40, ("clean",), precision="fp32")
EPSILON = ("eps=0.0314",)
A, B = ("a", 0), ("b", 0)


@pytest.fixture
def test() -> ImageSet:
    random = np.random.default_rng(0)
    return ImageSet(random.integers(0, 256, (40, 32, 32, 3), np.uint8), random.integers(0, 10, 40))


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Floats(), nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


class Floats(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.is_floating_point() else images.float() / 255


def pgd(steps: int, n: int = 40) -> Unit:
    return Unit("pgd", f"pgd-{steps}", n, EPSILON, epsilons=(8 / 255,), steps=steps)


def score(run: Path, seeds: Mapping[Key, int], test: ImageSet, *todo: Unit) -> list[str]:
    """What it says of what it scores, with networks of these seeds."""
    said: list[str] = []
    score_all({key: network(seed) for key, seed in seeds.items()}, todo, test, Results(run), CPU, said.append)
    return [line for line in said if line.startswith("scored")]


def assert_as_if_scored_anew(run: Path, seeds: Mapping[Key, int], test: ImageSet, *todo: Unit) -> None:
    """Rows and outcomes are those of a new run, and scoring again does nothing."""
    assert not score(run, seeds, test, *todo)
    score(run / "new", seeds, test, *todo)
    rows = [sorted(read_rows(place) or (), key=repr) for place in (run, run / "new")]
    assert rows[0] == rows[1]
    outcomes = [read_outcomes(place) for place in (run, run / "new")]
    assert outcomes[0].keys() == outcomes[1].keys()
    for place, trainings in outcomes[0].items():
        assert trainings.keys() == outcomes[1][place].keys()
        for key, values in trainings.items():
            np.testing.assert_array_equal(values, outcomes[1][place][key])


@pytest.mark.parametrize(("before", "after"), [(1, 5), (5, 1)])
def test_attacks_of_other_steps_are_made_again(tmp_path, test, before, after):
    score(tmp_path, {A: 1}, test, CLEAN, pgd(before))
    assert score(tmp_path, {A: 1}, test, CLEAN, pgd(after)) == [f"scored 1/1  pgd pgd-{after}"]
    assert_as_if_scored_anew(tmp_path, {A: 1}, test, CLEAN, pgd(after))


def test_corruptions_of_another_directory_are_scored_again_and_none_of_the_first_is_left(tmp_path, test):
    def fogs(folder: str, *names: str) -> list[Unit]:
        random = np.random.default_rng(len(folder))
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "labels.npy", np.tile(test.labels, 5))
        for name in names:
            np.save(tmp_path / folder / f"{name}.npy", random.integers(0, 256, (200, 32, 32, 3), np.uint8))
        files = open_corruptions(tmp_path / folder).files
        return [Unit("cifar-10-c", file.name, file.n, (file.name,), file) for file in files]

    run = tmp_path / "run"
    run.mkdir()
    score(run, {A: 1}, test, CLEAN, *fogs("generated", "fog", "spatter"))
    official = fogs("official", "fog")
    assert score(run, {A: 1}, test, CLEAN, *official) == ["scored 1/1  cifar-10-c fog"]
    assert_as_if_scored_anew(run, {A: 1}, test, CLEAN, *official)


def test_a_model_of_other_weights_is_scored_again_and_what_it_had_of_other_sets_goes(tmp_path, test):
    score(tmp_path, {A: 1, B: 2}, test, CLEAN, pgd(1))
    assert score(tmp_path, {A: 3, B: 2}, test, CLEAN) == ["scored 1/1  clean clean"]
    rows = {(row.key, row.set): row.weights for row in read_rows(tmp_path) or ()}
    a, b = of_weights(network(3)), of_weights(network(2))
    assert rows == {(A, "clean"): a, (B, "clean"): b, (B, "pgd"): b}
    assert list(read_outcomes(tmp_path)["pgd", *EPSILON, None, "wrong"]) == [B]


def test_former_models_stay_where_they_can_be_compared_and_go_where_they_cannot(tmp_path, test):
    score(tmp_path, {A: 1}, test, CLEAN, pgd(1, n=20))
    score(tmp_path, {B: 2}, test, CLEAN, pgd(1, n=30))
    assert [(row.key, row.set) for row in read_rows(tmp_path) or ()] == [(A, "clean"), (B, "clean"), (B, "pgd")]
    for measure in measures(read_outcomes(tmp_path)):
        assert len(measure.pairs) == len(measure.samples) - 1


def test_a_wished_precision_is_had_and_auto_takes_any(tmp_path, test):
    other = replace(CLEAN, precision="bf16")
    score(tmp_path, {A: 1}, test, CLEAN)
    assert not score(tmp_path, {A: 1}, test, replace(CLEAN, precision="auto"))
    assert score(tmp_path, {A: 1}, test, other)
    assert [row.precision for row in read_rows(tmp_path) or ()] == ["bf16"]
    assert not score(tmp_path, {A: 1}, test, replace(CLEAN, precision="auto"))
    score(tmp_path, {A: 1}, test, pgd(1))
    assert not score(tmp_path, {A: 1}, test, replace(pgd(1), precision="bf16"))  # attacks are fp32 all the same


def test_files_of_before_there_were_hashes_of_weights_are_read_and_scored_again(tmp_path, test):
    score(tmp_path, {A: 1}, test, CLEAN)
    path = tmp_path / "robustness.parquet"
    pd.read_parquet(path).drop(columns="weights").to_parquet(path)
    assert [row.weights for row in read_rows(tmp_path) or ()] == [""]
    assert score(tmp_path, {A: 1}, test, CLEAN)
    assert_as_if_scored_anew(tmp_path, {A: 1}, test, CLEAN)


def test_corruptions_that_are_generated_one_after_the_other_stay(tmp_path, test):
    fog, contrast = (Unit("generated-c", name, 40, (name,), precision="fp32") for name in ("fog", "contrast"))
    score(tmp_path, {A: 1}, test, CLEAN, fog)
    score(tmp_path, {A: 1}, test, CLEAN, contrast)
    assert_as_if_scored_anew(tmp_path, {A: 1}, test, CLEAN, fog, contrast)


def test_outcomes_that_a_killed_process_left_without_rows_are_taken_away(tmp_path, test):
    wrong = np.ones(20, np.float32)
    Results(tmp_path).add(pgd(7), [Scored(Row(*A, "pgd", "eps=0.5000", None, 20, 20), {"wrong": wrong})])
    score(tmp_path, {A: 1}, test, CLEAN)
    assert_as_if_scored_anew(tmp_path, {A: 1}, test, CLEAN)


def test_a_fingerprint_of_weights_is_of_every_value_and_of_no_layout():
    base = network(1)
    assert of_weights(base) == of_weights(network(1).to(memory_format=torch.channels_last))  # pyright: ignore[reportCallIssue]
    changed = network(1)
    with torch.no_grad():
        next(changed.parameters())[9, -1] += 1e-6
    counted = nn.BatchNorm2d(3)
    before = of_weights(counted)
    counted(torch.ones(2, 3, 4, 4))
    assert len({of_weights(base), of_weights(changed), before, of_weights(counted)}) == 4


def test_a_fingerprint_of_pictures_is_of_their_content_and_of_the_size_that_they_are_brought_to(tmp_path):
    def prints(red: int, side_px: int) -> list[str]:
        for severity in range(1, 6):
            for of_class in ("n01", "n02"):
                path = tmp_path / "fog" / str(severity) / of_class / "one.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20, 20), (red, 0, 0)).save(path)
        files = open_imagenet_c(tmp_path).files
        test = ImageSet(np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64))
        return [of_images(Unit("imagenet-c", f.name, f.n, (f.name,), f, side_px=side_px), test) for f in files]

    assert prints(0, 16) == prints(0, 16)
    assert len({*prints(0, 16), *prints(1, 16), *prints(1, 8)}) == 3


SPACE = """
name: small
data: {name: shapes, train_images: 100, test_images: 40, validation: 20}
model: fastnet
budget: {epochs: 1, batch_size: 50}
space: {optimizer: {sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}}}
search: {trials: 2}
finals: {top: 1, seeds: 1, score: [pgd], pgd_steps: 1, pgd_images: 20, epsilons: [0.0, 0.03], precision: fp32}
"""


def finals(run: Path, lr: float) -> None:
    """A trained baseline."""
    data = load(read_search(run / "spec.yaml").data)
    split = stratified_split(data.train.labels, 20, 0)
    spec = TrialSpec(model="fastnet", epochs=1, batch_size=50, optimizer=Optimizer(sgd=Sgd(lr=lr)), seed=7)
    directory = run / "finals" / "baseline" / "seed-0"
    train(spec, training_data(data, split.train, split.validation, None, CPU), CPU, directory=directory)
    row = {"model": "baseline", "seed": 7, "directory": str(directory.relative_to(run))}
    (run / "finals" / "finalists.json").write_text(json.dumps([row]))


def test_the_finals_of_a_run_are_scored_again_when_they_or_their_sets_have_changed(tmp_path, monkeypatch):
    """On a scorer in this process, in place of Ray's."""

    def spread(todo: Sequence[scoring.Job], source: Any, *_: Any):
        scorer: Any = scoring._Scorer(source, torch.get_num_threads(), None, trusted())
        scorer._device = CPU  # or Ray would be started, to be asked for it
        yield from ((job, scorer.score(*job)) for job in todo)

    monkeypatch.setattr(scoring, "_spread", spread)
    monkeypatch.setattr(scoring, "cluster_resources", lambda _: SimpleNamespace(nodes=((1.0, 0.0),), to_come=()))

    def scored() -> list[str]:
        said: list[str] = []
        scoring.score_run(tmp_path, None, said.append)
        return [line for line in said if line.startswith(("scored", "everything"))]

    (tmp_path / "spec.yaml").write_text(SPACE)
    finals(tmp_path, lr=0.1)
    assert scored() == ["scored 1/2  clean clean", "scored 2/2  pgd pgd-1"]
    assert scored() == ["everything is scored already"]
    (tmp_path / "spec.yaml").write_text(SPACE.replace("pgd_steps: 1", "pgd_steps: 3"))
    assert scored() == ["scored 1/1  pgd pgd-3"]
    shutil.rmtree(tmp_path / "finals")
    finals(tmp_path, lr=0.2)
    assert scored() == ["scored 1/2  clean clean", "scored 2/2  pgd pgd-3"]
    assert scored() == ["everything is scored already"]
    assert len({row.weights for row in read_rows(tmp_path) or ()}) == 1
