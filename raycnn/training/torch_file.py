"""What `torch.save` wrote, read without making anything of it but tensors and plain values.

torch.load(weights_only=True) inflates what is compressed, does not look at a zip archive's checksums, and can be made
to end the process: a key of tuples 300,000 deep overflows C's stack (PyTorch 2.14). Here checksums must be right, a
file takes memory in proportion to its length, and all that is wrong with it is an error.
"""

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raycnn.errors import one_line
from raycnn.training.pickled import Inert, Name, mapping, unpickled

_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of a file that is no zip archive: those until PyTorch 1.5
_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}


def read_saved(content: bytes) -> Any:
    """The object in a file that torch.save wrote, its tensors on the processor.

    Dictionaries with an order are plain ones. Other objects, sets and numbers of NumPy too, are `Inert`; so are tensors
    that are sparse, quantised or without values. Raises ValueError saying what is wrong, and for what is badly damaged
    nearly any other error.
    """
    return (_of_archive if content.startswith(b"PK") else _of_pickles)(content)


def take_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Changes `network`: its weights become these, of the same names and shapes.

    Raises ValueError on one line, whatever characters the names hold.
    """
    own = network.state_dict()
    for name in own.keys() & weights.keys():
        value = weights[name]
        if isinstance(value, Tensor) and own[name].is_floating_point() and not value.is_floating_point():
            raise ValueError(one_line(f"{name} is of {value.dtype}, which would lose or feign precision", 300))
    state = OrderedDict(weights)
    if own.keys() <= weights.keys():
        # The versions of modules, which are not read. A state with all of a network's names is of its own versions.
        state._metadata = own._metadata  # pyright: ignore[reportAttributeAccessIssue] PyTorch puts it there
    try:
        network.load_state_dict(state)
    except Exception as error:  # a network of one's own may look at its weights by code of its own
        raise ValueError(one_line(str(error), 300)) from error


def _of_archive(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if any(name.endswith("/constants.pkl") for name in names):
            raise ValueError("it is a TorchScript program")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is a compressed archive, which torch.save does not write")
        if len(names) < len(members) or sum(member.file_size for member in members) > len(content):
            raise ValueError("members of its archive overlap")
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("it is an archive, and not one of torch.save")
        root = roots[0]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it is of a big-endian machine")
        storages = _Storages(lambda key, _: archive.read(f"{root}data/{key}"))  # which sees to its checksum
        return unpickled(io.BytesIO(archive.read(f"{root}data.pkl")), _made, storages)


def _of_pickles(content: bytes) -> Any:
    """Of a file of several pickles, the fourth of which is the object, with storages behind them."""
    file = io.BytesIO(content)
    sizes: dict[str, int] = {}
    sizing = _Storages(lambda key, size: sizes.update({key: size}))
    if unpickled(file, _made, sizing) != _MAGIC:
        raise ValueError("it is not of the form that torch.save writes")
    for _ in ("the version of the form", "the sizes of C's types"):
        unpickled(file, _made, sizing)
    begin = file.tell()
    unpickled(file, _made, sizing)
    keys = unpickled(file, _made, sizing)
    end = file.tell()
    places: dict[str, int] = {}
    for key in keys:
        places[key] = end + 8  # of how many numbers follow, which is known
        end = places[key] + sizes[key]
    if end != len(content):
        raise ValueError("it is shorter or longer than it should be")
    storages = _Storages(lambda key, size: content[places[key] : places[key] + size])
    file.seek(begin)
    return unpickled(file, _made, storages)


@dataclass(frozen=True, slots=True)
class _Storage:
    """content: (bytes,) uint8."""

    content: Tensor
    dtype: torch.dtype


class _Storages:
    """The storages of a file, each read once.

    content: takes a storage's key, and the bytes that it should have; None: it is not wanted.
    """

    def __init__(self, content: Callable[[str, int], bytes | None]) -> None:
        self._content = content
        self._kept: dict[str, Tensor] = {}

    def __call__(self, identity: Any) -> _Storage | Inert:
        """The storage that a persistent identity means."""
        match identity:
            case ("storage", Name() as kind, str(key), _, int(numbers)):
                pass
            case ("storage", Name() as kind, str(key), _, int(numbers), None):  # in files that are no archives
                pass
            case ("module", Name() as network, *_):  # a whole network, in files that are no archives
                return Inert(network)
            case _:
                raise ValueError("it names a storage in an unknown way")
        dtype = _DTYPES.get(kind.rpartition(".")[2].removesuffix("Storage"))
        if dtype is None:
            return Inert(kind)
        size = numbers * dtype.itemsize
        if key not in self._kept:
            content = self._content(key, size)
            if content is None:
                return Inert(kind)
            stored = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0).byte()
            self._kept[key] = stored
        if len(self._kept[key]) != size:
            raise ValueError(f"its storage {key[:20]} has {len(self._kept[key])} bytes, and should have {size}")
        return _Storage(self._kept[key], dtype)


def _made(function: Any, arguments: Any) -> Any:
    """Tensors are made; of all else, what stands in its place."""
    match function, arguments:
        case (
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
            (_Storage() as storage, int(offset), tuple(size), tuple(stride), *more),
        ) if not any(more[2:]):  # else it is a view that is negative or conjugate
            return storage.content.view(storage.dtype).as_strided(size, stride, offset)  # never beyond the storage
        case (
            "torch._utils._rebuild_tensor_v3",
            (_Storage() as storage, int(offset), tuple(size), tuple(stride), _, _, Name() as name, *_),
        ) if isinstance(dtype := getattr(torch, name.removeprefix("torch."), None), torch.dtype):
            return storage.content.view(dtype).as_strided(size, stride, offset)
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (Tensor() as data, *_):
            return data
        case "torch._tensor._rebuild_from_type_v2", (Name() as inner, _, tuple(of_inner), *_):
            return _made(inner, of_inner)
        case "collections.OrderedDict", (list() as pairs,):  # as Python 2 wrote it
            found: dict[Any, Any] = {}
            for key, value in pairs:
                mapping(found, (key, value))
            pairs.clear()  # or a file could have it copied again and again
            return found
        case "collections.OrderedDict", _:
            return {}
    return Inert(function if isinstance(function, Name) else "something")
