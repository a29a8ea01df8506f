"""A search on a folder of pictures says what it does not read, and what would make its numbers too good."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Search
from PIL import Image

SPACE = """
name: pictures
data: {name: folder, validation: 20}
model: fastnet
budget: {epochs: 1, batch_size: 20}
space: {optimizer: {sgd: {lr: {type: float, low: 0.02, high: 0.5, log: true}}}}
search: {trials: 2, objectives: [val/clean_error]}
finals: off
"""


@pytest.mark.slow
def test_what_is_left_out_and_doubled_is_told_on_the_terminal_and_in_the_report(tmp_path: Path):
    rng, root = np.random.default_rng(0), tmp_path / "pictures"
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(20):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    (root / "train" / "ant" / "notes.txt").write_text("no picture")
    shutil.copytree(root / "train" / "ant", root / "train" / "ant" / ".thumbnails")
    shutil.copy(root / "test" / "bee" / "3.png", root / "train" / "bee" / "3.png")
    for number in range(8):  # of ten the same, some come to the validation images
        shutil.copy(root / "train" / "cat" / "9.png", root / "train" / "cat" / f"{number}.png")
    search = Search(tmp_path, "--data", str(root), space=SPACE)
    assert search.wait() == 0, search.text()
    said = search.text()
    assert re.search(r"^left out +1 file with \.txt, 1 hidden folder\s*$", said, re.MULTILINE)
    page = re.sub(r"</?span>", "", (search.run / "report.html").read_text(encoding="utf-8"))
    page = re.sub(r"\s+", " ", page)
    for told in (
        "1 of 60 test images: the same pixels as a training image (such as test/bee/3.png and train/bee/3.png).",
        "of 20 validation images: the same pixels as a training image (such as train/cat/",
    ):
        assert re.sub(r"\s+", " ", said).count(told) == 1
        assert told in page
    assert "3: ant, bee, cat" in page
    assert "32 × 32 pixels" in page
    assert "8 training images of folder: ant, bee, cat, ant, bee, cat, ant, bee." in page
