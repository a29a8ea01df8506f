"""Small copies of the official files, written by hand as Python 2's pickle protocol has them."""

import struct
from pathlib import Path

import numpy as np
import pytest

NAMES_10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def python2_pickle():
    """A function from a value to the bytes that Python 2 and an old NumPy would have pickled."""
    return lambda value: b"\x80\x02" + _opcodes(value) + b"."


@pytest.fixture
def write_cifar10(python2_pickle):
    """A function that writes a CIFAR-10 of random pixels with batches of these sizes (five of train, then test).

    `damage` changes the dict of data_batch_3 before it is written.
    """

    def write(folder: Path, sizes=(4, 3, 3, 3, 3, 5), damage=lambda batch: None) -> dict[str, np.ndarray]:
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        written: dict[str, np.ndarray] = {}
        for name, size in zip([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"], sizes, strict=True):
            data = rng.integers(0, 256, (size, 3072), dtype=np.uint8)
            labels = [int(label) for label in rng.integers(0, 10, size)]
            batch = {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": [b"x.png"] * size}
            if name == "data_batch_3":
                damage(batch)
            (folder / name).write_bytes(python2_pickle(batch))
            written[name] = data
        meta = {b"num_cases_per_batch": 4, b"label_names": [name.encode() for name in NAMES_10], b"num_vis": 3072}
        (folder / "batches.meta").write_bytes(python2_pickle(meta))
        return written

    return write


def _opcodes(value) -> bytes:
    match value:
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case int():
            return b"J" + struct.pack("<i", value)
        case list():
            return b"(" + b"".join(map(_opcodes, value)) + b"l"
        case dict():
            return b"(" + b"".join(_opcodes(key) + _opcodes(content) for key, content in value.items()) + b"d"
        case np.ndarray():
            code = value.dtype.str[1:].encode()
            order = value.dtype.str[:1].encode()
            dtype = b"cnumpy\ndtype\n(" + _opcodes(code) + b"I0\nI1\ntR(I3\n" + _opcodes(order) + b"NNNI-1\nI-1\nI0\ntb"
            rebuild = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
            shape = b"(" + b"".join(map(_opcodes, value.shape)) + b"t"
            return rebuild + b"(I1\n" + shape + dtype + b"I00\n" + _opcodes(value.tobytes()) + b"tb"
    raise TypeError(type(value))
