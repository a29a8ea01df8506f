"""The restricted reader: it reads what NumPy would, and nothing else gets to run."""

import contextlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycnn.data.batch_file import read_batch
from raycnn.errors import DataError

BATCH = {b"data": np.arange(24, dtype=np.uint8).reshape(2, 12), b"labels": [3, 9], b"batch_label": b"training batch"}


def test_a_python_2_batch_is_read_as_pickle_itself_reads_it(python2_pickle):
    content = python2_pickle(BATCH)
    read = read_batch(content, "data_batch_1")
    assert np.array_equal(read["data"], BATCH[b"data"])
    assert read["data"].dtype == np.uint8
    assert read["labels"] == [3, 9]
    assert read["batch_label"] == b"training batch"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("array", [BATCH[b"data"], np.asfortranarray(BATCH[b"data"]), np.array([1, 500], ">i4")])
def test_a_batch_that_python_3_has_written_anew_is_read(protocol, array):
    read = read_batch(pickle.dumps({"data": array, "labels": [3]}, protocol), "data_batch_1")
    assert np.array_equal(read["data"], array)


class _Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, print, os.remove, getattr, np.load, np.testing.assert_equal])
def test_a_pickle_that_calls_a_function_is_refused_by_its_name(protocol, function):
    content = pickle.dumps({b"data": _Runs(function, "x")}, protocol)
    with pytest.raises(
        DataError, match=rf"^data_batch_1: asks for .*{function.__name__}.*malicious.* official file\.$"
    ):
        read_batch(content, "data_batch_1")


def test_a_command_in_a_pickle_does_not_run(tmp_path):
    trace = tmp_path / "ran"
    content = pickle.dumps(_Runs(os.system, f"touch {trace}"), 2)
    with pytest.raises(DataError, match="system"):
        read_batch(content, "data_batch_1")
    assert not trace.exists()
    pickle.loads(content)  # noqa: S301 - it would have run
    assert trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"c__builtin__\neval\n.",
        b"Ppersistent\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02cnumpy\ndtype\n(U\x01OI0\nI1\ntR.",
        b"\x80\x02cnumpy\ndtype\nN}U\x06dtypesNs\x86b.",
        b"\x80\x02]q\x00.",
        b"\x80\x02}U\x01aK\x01s",
        b"",
        b"PK\x03\x04 this is a zip",
    ],
)
def test_what_is_no_batch_is_an_error_of_one_line(content):
    with pytest.raises(DataError, match=r"^data_batch_1: [^\n]*\.$"):
        read_batch(content, "data_batch_1")


def test_an_array_of_objects_is_refused(python2_pickle):
    content = pickle.dumps({b"data": np.array([{}, {}], object)}, 2)
    with pytest.raises(DataError, match="array of object"):
        read_batch(content, "data_batch_1")


def test_every_truncated_batch_is_an_error(python2_pickle):
    content = python2_pickle(BATCH)
    for length in range(len(content)):
        with pytest.raises(DataError, match="data_batch_1"):
            read_batch(content[:length], "data_batch_1")


@settings(deadline=None)
@given(st.data())
def test_a_batch_with_a_changed_byte_is_read_or_refused_but_never_worse(data):
    content = bytearray(pickle.dumps({b"data": BATCH[b"data"], b"labels": [3, 9]}, 2))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert isinstance(read_batch(bytes(content), "data_batch_1"), dict)
