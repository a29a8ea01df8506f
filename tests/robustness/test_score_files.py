"""What a scoring leaves behind: rows and outcomes, written whole, read as they were, never scored twice."""

import numpy as np
import pandas as pd
import pytest

from raycnn.errors import DataError
from raycnn.robustness.results import Results, Row, Scored, read_outcomes, read_rows
from raycnn.robustness.units import Unit

FOG = Unit("cifar-10-c", "fog", 4, ("fog",))
FGSM = Unit("fgsm", "fgsm", 4, ("eps=0.0000", "eps=0.1000"), epsilons=(0.0, 0.1))


def scored(model: str, seed: int, wrong: list[int], severity: int = 1) -> Scored:
    row = Row(
        model, seed, "cifar-10-c", "fog", severity, 4, sum(wrong), None, 1.5, 0.1, 0.2, images="these", weights="w"
    )
    return Scored(row, {"wrong": np.array(wrong)})


def test_rows_and_outcomes_come_back_as_they_were(tmp_path):
    results = Results(tmp_path)
    videos = Row("a", 2, "cifar-10-p", "tilt", None, 4, flip_probability=0.25, top5_distance=1.0, zipf_distance=0.5)
    results.add(FOG, [scored("a", 1, [0, 1, 1, 0])])
    results.add(Unit("cifar-10-p", "tilt", 4, ("tilt",)), [Scored(videos, {"flips": np.array([0, 0.5, 0.5, 0])})])
    results.save()
    assert list(read_rows(tmp_path) or ()) == results.rows
    assert results.rows[1] == videos
    outcomes = read_outcomes(tmp_path)
    np.testing.assert_array_equal(outcomes["cifar-10-c", "fog", 1, "wrong"]["a", 1], [0, 1, 1, 0])
    np.testing.assert_array_equal(outcomes["cifar-10-p", "tilt", None, "flips"]["a", 2], [0, 0.5, 0.5, 0])
    table = pd.read_parquet(tmp_path / "robustness.parquet")
    assert [*table.columns[:7]] == ["model", "seed", "set", "name", "severity", "n", "errors"]
    assert {"loss", "calibration", "adapted_errors"} <= set(table.columns)


def test_trainings_that_come_later_are_added_and_what_is_scored_again_is_replaced(tmp_path):
    results = Results(tmp_path)
    results.add(FOG, [scored("a", 1, [0, 0, 0, 1])])
    results.add(FOG, [scored("b", 1, [1, 1, 1, 1]), scored("a", 1, [1, 1, 0, 0])])
    results.save()
    assert [(row.model, row.errors) for row in read_rows(tmp_path) or ()] == [("b", 4), ("a", 2)]
    wrong = read_outcomes(tmp_path)["cifar-10-c", "fog", 1, "wrong"]
    np.testing.assert_array_equal(wrong["a", 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(wrong["b", 1], [1, 1, 1, 1])


def test_only_what_is_missing_is_asked_for(tmp_path):
    results = Results(tmp_path)
    results.add(FOG, [scored("a", 1, [0, 0, 0, 1])])
    models = {("a", 1): "w", ("a", 2): "w"}
    assert results.missing(FOG, "these", models) == [("a", 2)]
    assert results.missing(FOG, "others", models) == list(models)
    assert results.missing(FOG, "these", {("a", 1): "other"}) == [("a", 1)]
    row = Row("a", 1, "fgsm", "eps=0.0000", None, 4, 1, images="these", weights="w")
    results.add(FGSM, [Scored(row, {"wrong": np.zeros(4)})])
    assert results.missing(FGSM, "these", models) == list(models)  # an epsilon is lacking


def test_outcomes_are_on_disk_before_rows_say_so(tmp_path):
    results = Results(tmp_path)
    results.add(FOG, [scored("a", 1, [0, 0, 0, 1])])  # and then the process is killed
    assert read_rows(tmp_path) is None
    again = Results(tmp_path)
    assert again.missing(FOG, "these", {("a", 1): "w"}) == [("a", 1)]
    again.add(FOG, [scored("a", 1, [0, 0, 0, 1])])
    again.save()
    assert len(read_outcomes(tmp_path)["cifar-10-c", "fog", 1, "wrong"]) == 1


@pytest.mark.parametrize("damage", ["torn", "of another version"])
def test_a_damaged_file_is_named_on_one_line(tmp_path, damage):
    results = Results(tmp_path)
    results.add(FOG, [scored("a", 1, [0, 0, 0, 1])])
    results.save()
    for path, read in (
        (tmp_path / "robustness.parquet", read_rows),
        (tmp_path / "outcomes" / "cifar-10-c" / "fog.parquet", read_outcomes),
    ):
        if damage == "torn":
            path.write_bytes(path.read_bytes()[:50])
        else:
            pd.DataFrame({"model": ["a"], "metric": ["error"]}).to_parquet(path)
        with pytest.raises(DataError, match=path.name) as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)
