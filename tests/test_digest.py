"""Files that carry a digest of themselves: no flipped bit is read as another number."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import torch

from raycnn.digest import COMPACT, read_json, read_line, with_check, write_json
from raycnn.errors import RaycnnError, SpecError
from raycnn.run_files import read_spec, write_spec
from raycnn.spec.reading import search_from_text
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.tables import read_table, write_table
from raycnn.training import checkpoint
from raycnn.training.log import EpochRecord

SPACE = """
name: t
data: {name: shapes}
model: fastnet
budget: {epochs: 9, batch_size: 256}
space: {regularizers: {}, optimizer: {sgd: {lr: {type: float, low: 0.01, high: 1.0}}}}
search: {trials: 3}
"""


def _answer(read: Callable[[], Any]) -> Any:
    """What was read, or the line that refuses it."""
    try:
        return read()
    except RaycnnError as error:
        return str(error)


def _flips(content: bytes, step: int = 1):
    for place in range(0, len(content), step):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_json_comes_back_or_is_refused_and_an_earlier_version_is_read(tmp_path):
    path, tree = tmp_path / "a.json", {"error": 0.125, "name": "größe"}
    write_json(path, tree)
    assert read_json(path, "") == tree
    whole = path.read_bytes()
    for content in [*_flips(whole), whole[: len(whole) // 2], b"", b"null"]:
        path.write_bytes(content)
        found = _answer(lambda: read_json(path, "Restore it."))
        if isinstance(found, str):
            assert found.endswith("Restore it.")
            assert "\n" not in found
        else:
            assert {name: found[name] for name in tree} == tree  # the digest's own mark was hit
    path.write_text(json.dumps(tree))
    assert read_json(path, "") == tree
    path.unlink()
    assert read_json(path, "") == {}


def test_a_line_comes_back_or_is_refused(tmp_path):
    record = {"epoch": 3, "train_loss": 0.25, "metrics": {"a": 1.0}}
    line = json.dumps(with_check(record), separators=COMPACT).encode()
    assert read_line(line + b"\n") == record
    for content in _flips(line):
        found = read_line(content)
        assert found is None or {name: found.get(name) for name in record} == record
    assert read_line(json.dumps(record).encode()) == record  # of an earlier version


def test_a_table_comes_back_or_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, pa.table({"errors": [1, 2, None], "loss": [0.5, 1.5, 2.5]}))
    whole = path.read_bytes()
    rows = read_table(path, "").to_pylist()
    assert rows[2] == {"errors": None, "loss": 2.5}
    for content in _flips(whole, 3):
        path.write_bytes(content)
        found = _answer(lambda: read_table(path, "Make it again.").to_pylist())
        assert found == rows or found.endswith("Make it again.")


def test_a_spec_comes_back_or_is_refused(tmp_path):
    spec = search_from_text(SPACE, "t.yaml")
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    path = tmp_path / "spec.yaml"
    whole = path.read_bytes()
    for content in [*_flips(whole, 11), whole[: len(whole) // 2]]:
        path.write_bytes(content)
        found = _answer(lambda: read_spec(tmp_path))
        assert found == spec or (isinstance(found, str) and "\n" not in found)
    path.write_bytes(b"")
    with pytest.raises(SpecError, match=r"spec\.yaml: is empty\. Remove it"):
        read_spec(tmp_path)
    path.write_text(SPACE)  # of an earlier version
    assert read_spec(tmp_path) == spec


def test_no_flipped_bit_of_a_checkpoint_is_read_as_weights_and_one_without_a_digest_still_loads(tmp_path):
    spec = TrialSpec(model="fastnet", epochs=1, batch_size=20, optimizer=Optimizer(sgd=Sgd(lr=0.1)))
    record = EpochRecord(1, 20, 0.1, 2.0, {}, 0.1, 0.1)
    weights = {"w": torch.arange(500.0)}
    checkpoint.save(checkpoint.Checkpoint(spec, [record], weights, None, {}, 10, 32, (0.5,) * 3, (0.2,) * 3), tmp_path)
    path = tmp_path / checkpoint.LAST
    whole = path.read_bytes()
    for content in _flips(whole, 37):
        path.write_bytes(content)
        found = _answer(lambda: checkpoint.read(path))
        assert "\n" not in found if isinstance(found, str) else torch.equal(found.model["w"], weights["w"])
    end = whole.index(b"PK\x05\x06")
    path.write_bytes(whole[: end + 20] + b"\0\0")  # as earlier versions wrote it
    assert torch.equal(checkpoint.read(path).model["w"], weights["w"])
