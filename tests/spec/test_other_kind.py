"""A file that was given in the place of another one: what it is, and where it belongs."""

from pathlib import Path

import pytest

from raycnn import run_files
from raycnn.digest import BLANK, with_digest, write_json
from raycnn.errors import SpecError
from raycnn.spec.reading import read_recipe, read_search

ROOT = Path(__file__).parents[2]
SPACE, RECIPE = ROOT / "search_spaces/quickstart.yaml", ROOT / "search_spaces/recipes/cutout.yaml"


def test_a_recipe_and_a_search_space_in_each_others_place_name_the_other_command():
    with pytest.raises(SpecError, match=r"cutout\.yaml: is a recipe.* train \S*cutout\.yaml$"):
        read_search(RECIPE, ["search.trials=3"])
    with pytest.raises(SpecError, match=r"quickstart\.yaml: is a search space.* tune \S*quickstart\.yaml$"):
        read_recipe(SPACE)


def test_other_files_are_told_for_what_they_are(tmp_path: Path):
    with pytest.raises(SpecError, match=r"is the configuration of a cluster.* Give a search space"):
        read_search(ROOT / "cluster.yaml")
    write_json(tmp_path / "manifest.json", {"raycnn": "0.1.0"})
    with pytest.raises(SpecError, match=r"is a file that raycnn wrote.* Give a recipe"):
        read_recipe(tmp_path / "manifest.json")
    (tmp_path / "trial.json").write_text('{"model": "fastnet", "epochs": 3, "batch_size": 8, "optimizer": {}}')
    with pytest.raises(SpecError, match="is a single training, without its data"):
        read_search(tmp_path / "trial.json")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("batch_size=4", "batch_size: unknown key. Did you mean training.batch_size?"),
        ("batchsize=4", "batchsize: unknown key. Did you mean training.batch_size?"),
        ("budget.batch_size=4", "budget: unknown key. Did you mean training.batch_size?"),
        ("budget={epochs: 3, batch_size: 4}", "Did you mean training.epochs and training.batch_size?"),
        ("training.batchsize=4", "training.batchsize: unknown key. Did you mean batch_size?"),
    ],
)
def test_a_key_of_a_search_space_in_a_recipe_leads_to_the_recipes(override: str, says: str):
    with pytest.raises(SpecError) as caught:
        read_recipe(RECIPE, [override])
    assert says in str(caught.value)


def test_the_directory_of_a_run_leads_to_its_search_and_that_is_taken(tmp_path: Path):
    run_files.write_spec(tmp_path, read_search(SPACE))
    with pytest.raises(SpecError, match="is the directory of a run") as caught:
        read_search(tmp_path)
    named = str(caught.value).split("give ")[1].split()[0]
    assert read_search(Path(named)) == read_search(SPACE)


def test_what_a_newer_raycnn_wrote_is_told_as_such_and_what_was_changed_by_hand_is_not(tmp_path: Path):
    newer = with_digest(f"# {BLANK}\n{SPACE.read_text()}gossip: loud\n".encode())
    (tmp_path / "spec.yaml").write_bytes(newer)
    for read in (run_files.read_spec, lambda run: read_search(run / "spec.yaml")):
        with pytest.raises(
            SpecError, match=r"gossip: unknown key.* A newer .or another. raycnn than this one, \d"
        ) as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "spec.yaml").write_bytes(newer.replace(b"gossip", b"gissop"))
    with pytest.raises(SpecError, match="gissop: unknown key") as caught:
        read_search(tmp_path / "spec.yaml")
    assert "than this one" not in str(caught.value)
