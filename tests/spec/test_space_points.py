"""Points of a space: all of a grid, those of recipes, and which parameters of a point count."""

from pathlib import Path

import pytest

from raycnn.errors import SpecError
from raycnn.search.study import point_from
from raycnn.spec.reading import search_from_text
from raycnn.spec.space import active, grid, resolve

SPACE = """
name: t
data: {name: cifar10}
model: fastnet
budget: {epochs: 9, batch_size: 256}
space:
  regularizers:
    cutout:
      choice:
        off: {}
        on: {holes: {type: int, low: 1, high: 3}, size_px: {choice: [4, 8]}}
    mixup: {choice: {off: {}, on: {alpha: {type: float, low: 0.1, high: 0.3, step: 0.1}}}}
  optimizer:
    choice:
      sgd: {lr: {choice: [0.1, 0.2]}}
      adamw: {lr: 0.001}
"""


def test_a_grid_has_every_combination_once_and_of_each_branch_its_own_parameters():
    space = search_from_text(SPACE, "t").space
    points = list(grid(space))
    assert len(points) == (1 + 3 * 2) * (1 + 3) * (2 + 1)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert {"cutout": "off", "mixup": "off", "optimizer": "adamw"} in points
    for point in points:
        assert ("cutout.holes" in point) == (point["cutout"] == "on")
        assert active(space, point) == point


def test_parameters_of_branches_that_were_not_taken_do_not_count():
    space = search_from_text(SPACE, "t").space
    values = {"cutout": "off", "cutout.holes": 2, "mixup": "on", "mixup.alpha": 0.2, "optimizer": "adamw"}
    values |= {"optimizer.sgd.lr": 0.1}
    assert active(space, values) == {"cutout": "off", "mixup": "on", "mixup.alpha": 0.2, "optimizer": "adamw"}


RECIPE = """
name: r
data: {name: cifar10}
training:
  model: resnet18
  epochs: 200
  batch_size: 128
  regularizers: {cutout: {holes: 2, size_px: 8}%s}
  optimizer: {sgd: {lr: 0.1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE % "")
    return path


def test_a_recipe_is_a_point_of_the_space_which_resolves_to_it(recipe):
    spec = search_from_text(SPACE, "t")
    point = point_from(recipe, spec)
    assert point == {
        "cutout": "on",
        "cutout.holes": 2,
        "cutout.size_px": 8,
        "mixup": "off",
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.1,
    }
    tree = resolve(spec.space, lambda name, _: point[name])
    assert tree["regularizers"]["cutout"] == {"size_px": 8, "holes": 2, "fill": "mean"}
    assert tree["optimizer"]["sgd"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (", mixup: {alpha: 0.9}", "mixup.alpha is 0.9, and the space goes from 0.1 to 0.3"),
        (", label_smoothing: 0.1", "label_smoothing is 0.1, and the space has 0.0"),
        (", rotation: {weight: 0.5}", "rotation is on, and the space has it off"),
    ],
)
def test_a_recipe_beyond_the_space_is_refused(recipe, change, message):
    recipe.write_text(RECIPE % change)
    with pytest.raises(SpecError, match=rf"search.start: {recipe}: {message}. Widen the space"):
        point_from(recipe, search_from_text(SPACE, "t"))
