"""What was published stands beside what was measured in the same setting, and beside nothing else."""

import numpy as np
import pytest

from raycnn.reporting.published import results_text
from raycnn.robustness.summary import Measure
from raycnn.spec.recipe import Recipe

SETTING = {
    "data": {"name": "cifar10"},
    "training": {"model": "resnet18", "epochs": 200, "batch_size": 128, "optimizer": {"sgd": {"lr": 0.1}}},
}
CLEAN = {"metric": "clean/error", "value": 0.25, "deviation": 0.01, "trainings": 5, "source": "a paper", "of": SETTING}
CORRUPTED = {"metric": "cifar-10-c/mce15", "value": 0.5, "source": "another", "of": SETTING}


def recipe(data: dict | None = None, training: dict | None = None) -> Recipe:
    tree = {
        "name": "net",
        "data": SETTING["data"] | (data or {}),
        "training": SETTING["training"] | (training or {}),
        "published": [CLEAN, CORRUPTED],
    }
    return Recipe.model_validate(tree)


def measure(key: str, *errors: float) -> Measure:
    """With these errors of 1,000 images, one for each training."""
    wrong = np.stack([np.arange(1000) < 1000 * error for error in errors]).astype(np.float32)
    return Measure(key.partition("/")[0], key, key, {"net": wrong})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_figure_of_the_same_setting_stands_beside_the_number_with_intervals():
    every = [measure("clean/error", 0.19, 0.2, 0.21), measure("clean/ece", 0.1, 0.1, 0.1)]
    head, clean, calibration, corrupted = results_text(recipe(), every, {})
    of = every[0].estimate("net")
    assert cells(head) == [
        "mean ± deviation of 3 trainings",
        "95 % interval",
        "published",
        "difference, 95 % interval",
        "source",
    ]
    low, high = 100 * of.low - 25, 100 * of.high - 25
    assert cells(clean) == [
        "clean/error",
        "20.00 ± 1.00 %",
        f"{100 * of.low:.2f} to {100 * of.high:.2f}",
        "25.00 ± 1.00 % (n = 5)",
        f"{-5:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−"),
        "a paper",
    ]
    assert cells(calibration)[:2] == ["clean/ece", "10.00 ± 0.00 %"]
    assert corrupted == "cifar-10-c/mce15: 50.00 % was published (another); it was not measured here."


def test_two_figures_of_one_number_both_stand_beside_it():
    twice = recipe().model_copy(update={"published": recipe().published[:1] * 2})
    lines = results_text(twice, [measure("clean/error", 0.2, 0.2)], {})
    assert [cells(line)[-1] for line in lines] == ["source", "a paper", "a paper"]


def test_of_one_training_the_interval_is_of_images_alone_which_is_said():
    head, clean, said, _ = results_text(recipe(), [measure("clean/error", 0.2)], {})
    assert cells(head)[0] == "one training"
    half = 1.96 * (20 * 80 / 1000) ** 0.5  # of 1,000 images, in percent
    assert [float(end) for end in cells(clean)[2].split(" to ")] == pytest.approx([20 - half, 20 + half], abs=0.2)
    assert said.startswith("The intervals are of the test images alone")


@pytest.mark.parametrize(
    ("data", "training", "theirs", "ours"),
    [
        ({}, {"model": "fastnet", "epochs": 1}, "model resnet18, epochs 200", "model fastnet, epochs 1"),
        ({"name": "cifar100"}, {}, "data.name cifar10", "data.name cifar100"),
        ({"name": "shapes", "train_images": 100}, {}, "data.name cifar10", "data.name shapes"),
        ({"verify": False}, {}, "official images", "unofficial copies (data.verify: false)"),
        ({"validation": 0.5}, {}, "data.validation 0.1", "data.validation 0.5"),
        ({}, {"train_on": "all"}, "train_on train", "train_on all"),
        ({}, {"regularizers": {"mixup": {"alpha": 0.2}}}, "regularizers.mixup off", "regularizers.mixup on"),
        (
            {},
            {"optimizer": {"adamw": {"lr": 0.1}}},
            "optimizer.sgd on, optimizer.adamw off",
            "optimizer.sgd off, optimizer.adamw on",
        ),
    ],
)
def test_a_figure_of_another_setting_is_left_out_and_the_differences_are_named(data, training, theirs, ours):
    every = [measure("clean/error", 0.2), measure("cifar-10-c/mce15", 0.4)]
    lines = results_text(recipe(data, training), every, {"cifar-10-c": "official, MD5 0"})
    assert cells(lines[0]) == ["one training", "95 % interval"]
    assert lines[-2:] == [
        f"{metric}: published figures are of {theirs}; here {ours}: not compared."
        for metric in ("clean/error", "cifar-10-c/mce15")
    ]


@pytest.mark.parametrize(
    ("data", "training"),
    [
        ({"root": "elsewhere", "seed": 1}, {"seed": 7}),
        ({}, {"precision": "fp32", "compile": True, "deterministic": True}),
        ({}, {"regularizers": {"crop_px": 4}}),  # written out, a default is the same
    ],
)
def test_seeds_places_and_ways_of_computing_are_no_other_setting(data, training):
    lines = results_text(recipe(data, training), [measure("clean/error", 0.2)], {})
    assert cells(lines[1])[-1] == "a paper"


def test_figures_of_a_benchmark_are_of_its_official_files():
    every = [measure("clean/error", 0.2), measure("cifar-10-c/mce15", 0.4)]
    lines = results_text(recipe(), every, {"cifar-10-c": "generated by raycnn 1 of cifar10, seed 0"})
    assert cells(lines[1])[-1] == "a paper"
    assert lines[-1] == (
        "cifar-10-c/mce15: published figures are of official benchmark files; "
        "here files generated by raycnn 1 of cifar10, seed 0: not compared."
    )
    lines = results_text(recipe(), every, {"cifar-10-c": "official, MD5 0"})
    assert cells(lines[2])[-1] == "another"
