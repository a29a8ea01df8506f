"""A run directory: who holds it, on which images it was begun, and what is in the way of its finals."""

import json
import time
from datetime import UTC
from pathlib import Path

import optuna
import pytest
import torch

from raycnn.data.dataset import channel_statistics
from raycnn.data.shapes import generate
from raycnn.errors import ClusterError, DataError, SpecError
from raycnn.search.finals import Final, _set_aside
from raycnn.search.journal import open_storage
from raycnn.search.rundir import held, keep_spec, refuse_other, same_images, write_manifest
from raycnn.spec.search import SearchSpec
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.loop import Images, TrainingData, train


def test_what_goes_wrong_while_a_run_is_held_is_not_taken_for_a_directory_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(ConnectionError), held(tmp_path / "run"):
        raise ConnectionError("a dashboard that is down")
    with held(tmp_path / "run"):  # given back
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match="cannot be written"), held(tmp_path / "file" / "run"):
        pass


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path):
    images = {"digest": "a", "split_digest": "b"}
    same_images(tmp_path, images)
    write_manifest(tmp_path, {})
    same_images(tmp_path, images)
    write_manifest(tmp_path, {"data": images | {"name": "folder"}})
    same_images(tmp_path, images)
    for other in ({"digest": "x"}, {"split_digest": "x"}):
        with pytest.raises(DataError, match="the images are others than they were"):
            same_images(tmp_path, images | other)


def test_a_manifest_that_was_lost_begins_when_the_first_trial_did(tmp_path: Path):
    study = optuna.create_study(storage=open_storage(tmp_path / "study.journal"))
    began = study.ask() and study.trials[0].datetime_start
    assert began
    time.sleep(1.1)
    write_manifest(tmp_path, {})
    found = json.loads((tmp_path / "manifest.json").read_text())["started"]
    assert found == began.astimezone(UTC).isoformat(timespec="seconds")


def search_of(model: str) -> SearchSpec:
    return SearchSpec.model_validate(
        {
            "name": "small",
            "data": {"name": "shapes", "validation": 20, "train_images": 100, "test_images": 20},
            "model": model,
            "budget": {"epochs": 1, "batch_size": 20},
            "space": {"optimizer": {"sgd": {"lr": 0.1}}},
        }
    )


def begun(run: Path) -> optuna.Study:
    """What a search leaves there that ends before its first epoch."""
    (run / "trials" / "0").mkdir(parents=True)
    (run / "trials" / "0" / "metrics.jsonl").touch()
    keep_spec(run, search_of("fastnet"))
    write_manifest(run, {"data": {"digest": "of other images"}})
    study = optuna.create_study(storage=open_storage(run / "study.journal"))
    study.ask()
    return study


def test_a_directory_in_which_nothing_was_trained_may_be_another_searchs(tmp_path: Path):
    begun(tmp_path)
    refuse_other(tmp_path, search_of("resnet18"))
    assert list(tmp_path.iterdir()) == []
    keep_spec(tmp_path, search_of("resnet18"))
    refuse_other(tmp_path, search_of("resnet18"))
    assert (tmp_path / "spec.yaml").exists()


@pytest.mark.parametrize("left", ["an epoch", "a checkpoint", "a final", "a trial's result", "a damaged journal"])
def test_a_directory_with_anything_trained_stays_its_searchs(tmp_path: Path, left: str):
    study = begun(tmp_path)
    trial = tmp_path / "trials" / "0"
    if left == "an epoch":
        (trial / "metrics.jsonl").write_text("{}\n")
    elif left == "a checkpoint":
        (trial / "checkpoint.pt").write_bytes(b"weights")
    elif left == "a final":
        (tmp_path / "finals" / "baseline").mkdir(parents=True)
        (tmp_path / "finals" / "baseline" / "checkpoint.pt").write_bytes(b"weights")
    elif left == "a trial's result":
        study.tell(0, 0.5)
    else:
        (tmp_path / "study.journal").write_text("{}\n{}\n")
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    with pytest.raises(SpecError, match="holds another search: model was 'fastnet' and is now 'resnet18'"):
        refuse_other(tmp_path, search_of("resnet18"))
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before


def test_a_final_of_another_length_is_set_aside_and_a_torn_line_is_no_end(tmp_path: Path):
    pixels, labels = generate(40, 0, 0, lambda _: None)
    images = Images(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels).long())
    mean, std = map(tuple, channel_statistics(pixels))
    data = TrainingData(images, images, None, mean, std, int(labels.max()) + 1)
    spec = TrialSpec(model="fastnet", epochs=1, batch_size=20, optimizer=Optimizer(sgd=Sgd(lr=0.1)))
    final = Final("baseline", 0, spec, tmp_path / "baseline" / "seed-0")
    assert not final.done
    train(spec, data, torch.device("cpu"), directory=final.directory)
    record = json.dumps({"epoch": 1})
    (final.directory / "metrics.jsonl").write_text(record + "\n")
    assert final.done
    (final.directory / "metrics.jsonl").write_text(record[:-3])
    assert not final.done
    _set_aside(final)
    assert (final.directory / "checkpoint.pt").exists()
    longer = Final("baseline", 0, spec.model_copy(update={"epochs": 2}), final.directory)
    _set_aside(longer)
    assert not final.directory.exists()
    assert (tmp_path / "baseline" / "before-0-seed-0" / "checkpoint.pt").exists()
