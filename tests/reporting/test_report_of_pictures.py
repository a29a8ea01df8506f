"""What the report says and shows of a folder of pictures: as many classes as there are, in turn."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.sources import load
from raycnn.reporting.results import Run, read_run
from raycnn.reporting.samples import COUNT, sample_images
from raycnn.reporting.setup import setup_facts
from raycnn.spec.data import DataSpec

LEVELS = {"ant": 40, "bee": 120, "cat": 200}


@pytest.fixture
def run_on(make, tmp_path: Path):
    """A function from the number of pictures in each class to a run on them. They are grey, of their class's level,
    and a little lighter from one to the next."""

    def run_on(**counts: int) -> Run:
        for name, count in counts.items():
            for split in ("train", "test"):
                folder = tmp_path / "pictures" / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    Image.new("L", (12, 12), LEVELS[name] + number).save(folder / f"{number:02d}.png")
        data = load(DataSpec(name="folder", image_px=16), tmp_path / "pictures", cache=tmp_path / "cache")
        run = make(data="folder")
        manifest = json.loads((run / "manifest.json").read_text())
        facts = {"directory": str(data.directory), "classes": data.class_names, "side_px": 16}
        told = {"left_out": "3 files with .txt", "duplicates": ["Some are the same.", "Others, too."]}
        (run / "manifest.json").write_text(json.dumps(manifest | {"data": manifest["data"] | facts | told}))
        return read_run(run)

    return run_on


def levels(run: Run) -> list[int]:
    """Of the images that are shown as they are."""
    strips, _ = sample_images(run, None)
    content = base64.b64decode(strips[0].source.removeprefix("data:image/png;base64,"))
    row = np.asarray(Image.open(io.BytesIO(content)).convert("L"))[8]
    return row[8 :: 16 + 2].tolist()


def test_the_images_are_of_each_class_in_turn(run_on):
    run = run_on(ant=20, bee=20, cat=20)
    assert levels(run) == [40, 120, 200, 41, 121, 201, 42, 122]
    assert sample_images(run, None)[1] == "8 training images of folder: ant, bee, cat, ant, bee, cat, ant, bee."


def test_a_class_that_has_no_more_images_is_passed_over(run_on):
    assert levels(run_on(ant=2, bee=9)) == [40, 120, 41, 121, 122, 123, 124, 125]


def test_of_fewer_images_than_are_shown_some_come_again(run_on):
    run = run_on(ant=2, bee=3)
    assert levels(run) == [40, 120, 41, 121, 122, 40, 120, 41]
    assert len(sample_images(run, None)[0]) > 1
    assert COUNT == 8


def test_the_setup_names_size_classes_what_is_left_out_and_duplicates(run_on):
    facts = setup_facts(run_on(ant=2, bee=3))["Training"]
    assert facts["images"].endswith(", 16 × 16 pixels")
    assert facts["classes"] == "2: ant, bee"
    assert facts["left out"] == "3 files with .txt"
    assert facts["duplicates"] == "Some are the same. Others, too."


def test_a_run_of_an_earlier_version_tells_what_it_knows(make):
    facts = setup_facts(read_run(make(data="folder")))["Training"]
    assert facts["images"] == "45,000 train, 5,000 validation, 10,000 test"
    assert not {"classes", "left out", "duplicates"} & facts.keys()
