"""The sample images are real ones: cut, mixed and turned as training does it."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from raycnn.data import shapes
from raycnn.data.dataset import channel_statistics
from raycnn.reporting.answer import chosen_trial
from raycnn.reporting.results import Run, read_run
from raycnn.reporting.samples import COUNT, Sample, sample_images
from raycnn.spec.reading import search_from_text


@pytest.fixture(scope="module")
def run(run_dir) -> Run:
    return read_run(run_dir)


@pytest.fixture(scope="module")
def strips(run) -> dict[str, Sample]:
    return {sample.title: sample for sample in sample_images(run, chosen_trial(run))[0]}


def pixels(sample: Sample) -> np.ndarray:
    """(8, 32, 32, 3) of a strip."""
    data = base64.b64decode(sample.source.removeprefix("data:image/png;base64,"))
    strip = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return np.stack([strip[:, i * 34 : i * 34 + 32] for i in range(COUNT)]).astype(int)


def test_there_is_a_strip_for_each_regularizer(strips):
    assert list(strips) == ["as they are", "crop and flip", "cutout", "mixup", "rotation"]
    assert all(pixels(sample).shape == (COUNT, 32, 32, 3) for sample in strips.values())


def test_the_images_are_of_the_run_and_of_different_classes(strips, run):
    images, labels = shapes.generate(250, run.spec.data.seed, 0)
    own = [int(np.flatnonzero((images == image).all((1, 2, 3)))[0]) for image in pixels(strips["as they are"])]
    assert len(set(labels[own])) == COUNT


def test_cutout_writes_the_mean_colour_and_leaves_the_rest(strips, run):
    mean = np.rint(255 * np.array(channel_statistics(shapes.generate(250, run.spec.data.seed, 0)[0])[0]))
    before, after = pixels(strips["as they are"]), pixels(strips["cutout"])
    changed = np.abs(before - after).max(-1) > 1
    assert changed.any((1, 2)).all()
    assert np.abs(after[changed] - mean).max() <= 1


def test_rotation_shows_quarter_turns(strips):
    before, after = pixels(strips["as they are"]), pixels(strips["rotation"])
    turned = np.concatenate([[np.rot90(image, quarter) for quarter in range(4)] for image in before[:2]])
    assert np.abs(turned - after).max() <= 1


def test_mixup_mixes_with_the_weights_that_it_names(strips):
    before, after = pixels(strips["as they are"]), pixels(strips["mixup"])
    weights = np.array(strips["mixup"].strength.split("λ = ")[1].split(), float)[:, None, None, None]
    expected = weights * before + (1 - weights) * np.roll(before, 1, axis=0)
    assert np.abs(expected - after).max() <= 0.005 * 255 + 1


def test_strengths_are_the_finalists_or_the_middle_of_the_range(run):
    trial = next(t for t in run.trials if t.parameters.get("cutout") == "off" and t.parameters.get("mixup") == "on")
    strengths = {sample.title: sample.strength for sample in sample_images(run, trial)[0]}
    assert strengths["mixup"].startswith(f"alpha {trial.parameters['mixup.alpha']:.3g}, as in {trial.name}")
    assert strengths["cutout"] == f"3 squares of 10 px, the middle of the range searched; {trial.name} does without it"
    assert sample_images(run, None)[0]


def test_regularizers_that_are_not_in_the_space_are_not_shown(run):
    text = "{name: x, data: {name: shapes}, model: fastnet, budget: {epochs: 1, batch_size: 2}, space: "
    spec = search_from_text(text + "{optimizer: {sgd: {lr: {type: float, low: 0.1, high: 1.0}}}}}", "test")
    titles = [sample.title for sample in sample_images(replace(run, spec=spec), None)[0]]
    assert titles == ["as they are", "crop and flip"]


def test_where_the_data_are_gone_a_sentence_says_so(make):
    strips, sentence = sample_images(read_run(make(data="cifar10")), None)
    assert strips == []
    assert sentence.startswith("Sample images are left out")
