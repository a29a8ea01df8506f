"""The pickled batch files of CIFAR, read without trusting them.

A pickle may name any importable callable and have it called. This reader knows three names, those that NumPy arrays in
such files need, and answers them with stand-ins of its own that only record what they are given. Every other name is
refused before it is imported.
"""

import io
import pickle
from typing import Any

import numpy as np

from raycnn.errors import DataError


def read_batch(content: bytes, file: str) -> dict[str, Any]:
    """The dict in a batch file's bytes: names to arrays, lists, numbers, bytes or str.

    file: named in errors. Python 2's strings come as bytes, except for the names, which become str.
    Raises DataError for anything that is not such a dict.
    """
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(batch, dict):
            raise ValueError(f"a {type(batch).__name__} instead of a dict")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in batch.items()}
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: not a readable batch file ({reason}). Replace it by an intact copy.") from error


class _BatchUnpickler(pickle._Unpickler):
    """In Python, because the C one allocates whatever a damaged file's memo index asks for; a batch takes 0.1 s."""

    def find_class(self, module: str, name: str) -> type:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise DataError(
                f"asks for {module}.{name}, which no CIFAR file needs; it may be malicious. "
                "Delete it and take the official file."
            )
        return stand_in


class _Dtype:
    """Stands in for numpy.dtype: an integer type by its code, such as u1 or i8."""

    __slots__ = ("dtype",)

    def __init__(self, code: bytes | str, align: bool, copy: bool):
        self.dtype = np.dtype(_text(code))
        if self.dtype.kind not in "iu":
            raise ValueError(f"an array of {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        order = "big" if _text(state[1]) == ">" else "little"
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for numpy.ndarray and for the function that rebuilds one."""

    __slots__ = ("state",)

    def __init__(self, kind: type, shape: tuple, code: bytes):
        self.state: tuple[int, tuple, _Dtype, bool, bytes] | None = None

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        if self.state is None:
            raise ValueError("an array without content")
        _, shape, dtype, column_major, content = self.state
        return np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if column_major else "C")


class _Latin1(bytes):
    """Stands in for _codecs.encode, by which Python 3 writes bytes into an old pickle."""

    def __new__(cls, text: str, encoding: bytes | str) -> bytes:
        if _text(encoding) != "latin1":
            raise ValueError(f"bytes in the encoding {_text(encoding)}")
        return text.encode("latin1")


# NumPy 2 calls the module numpy._core; the official files were written long before.
_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
}


def _text(name: bytes | str) -> str:
    return name.decode("ascii") if isinstance(name, bytes) else name
