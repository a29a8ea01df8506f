"""Files of weights that were altered by chance or by somebody: no traceback, no hang, no code that is run, no memory
beyond the file's own measure. What still gives an answer gives that of the whole file, or was made a whole file again.
"""

import io
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raycnn import models
from raycnn.errors import CheckpointError, RaycnnError
from raycnn.models.classifier import Classifier
from raycnn.robustness.evaluate import logits_of_all
from raycnn.robustness.external import Wish, load_models, sources
from raycnn.spec.trial import Optimizer, Sgd, TrialSpec
from raycnn.training.checkpoint import LAST, Checkpoint, save
from raycnn.training.log import EpochRecord

pytestmark = pytest.mark.timeout(120)
CPU = torch.device("cpu")
CLASSES, SIDE = 4, 8
MEMORY = 1_000_000_000
"""Bytes that a file may take beside what the process has. The files have less than a hundredth."""

NETS = f"""
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear({3 * SIDE * SIDE}, 8), nn.ReLU(), nn.Linear(8, {CLASSES}))
"""
FOREIGN, OWN = "their_nets:small@weights", LAST


def _weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.ReLU(), nn.Linear(8, CLASSES)).state_dict()


def _saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """A file of either kind."""
    folder = tmp_path_factory.mktemp("whole")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(models.build("fastnet", SIDE), CLASSES, (0.5,) * 3, (0.2,) * 3, rotation=False)
    spec = TrialSpec(model="fastnet", epochs=1, batch_size=8, optimizer=Optimizer(sgd=Sgd(lr=0.1)), precision="fp32")
    history = [EpochRecord(1, 8, 0.1, 1.0, {"val/clean_error": 0.5}, 1.0, 1.0)]
    state = classifier.state_dict()
    save(Checkpoint(spec, history, state, None, {"state": {}}, CLASSES, SIDE, (0.5,) * 3, (0.2,) * 3), folder)
    return {FOREIGN: _saved({"epoch": 3, "state_dict": _weights()}), OWN: (folder / LAST).read_bytes()}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    (tmp_path / "their_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("their_nets", None)


@contextmanager
def _little_memory() -> Iterator[None]:
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


IMAGES = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)


def _answer(kind: str, content: bytes) -> np.ndarray | None:
    """What a scoring would rest on; None where the file is refused, in one line that a terminal shows as it is."""
    Path(kind.partition("@")[2] or kind).write_bytes(content)
    try:
        with _little_memory():
            found = load_models(sources([kind]), Wish(), CLASSES, SIDE)
            return next(iter(logits_of_all(found, IMAGES, CPU).values()))
    except RaycnnError as error:
        assert isinstance(error, CheckpointError)  # noqa: PT017
        assert str(error).isprintable(), repr(str(error))  # noqa: PT017
        assert len(str(error)) < 1000  # noqa: PT017
        assert "memory" not in str(error).lower()  # noqa: PT017 it is refused for what it is
        return None


def _whole_answer(kind: str, content: bytes) -> np.ndarray:
    found = _answer(kind, content)
    assert found is not None
    return found


def _rewritten(content: bytes, change: Callable[[str, bytes], list[tuple[str, bytes]]], **how: Any) -> bytes:
    """The archive, whole again, with other members for each of its own. change: takes name within the root, content."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", **how) as new:
        for name in old.namelist():
            root, _, inner = name.partition("/")
            for changed, value in change(inner, old.read(name)):
                new.writestr(f"{root}/{changed}", value)
    return file.getvalue()


def _with_pickle(content: bytes, pickled: bytes) -> bytes:
    return _rewritten(content, lambda name, value: [(name, pickled if name == "data.pkl" else value)])


def _pickle_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


@pytest.mark.parametrize("kind", [FOREIGN, OWN])
def test_bytes_that_are_flipped_cut_doubled_or_zeroed_never_give_another_score(whole, kind):
    content = whole[kind]
    wanted = _whole_answer(kind, content)
    random = np.random.default_rng(0)
    refused = 0
    for number in range(100):
        place, length = int(random.integers(len(content))), int(random.integers(1, 200))
        bit = bytes([content[place] ^ 1 << int(random.integers(8))])
        changed = {
            0: content[:place] + bit + content[place + 1 :],
            1: content[:place],
            2: content[:place] + content[place + length :],
            3: content[:place] + content[place : place + length] + content[place:],
            4: content[:place] + bytes(length) + content[place + length :],
        }[number % 5]
        found = _answer(kind, changed)
        refused += found is None
        assert found is None or np.array_equal(found, wanted)
    assert refused > 50


@pytest.mark.parametrize("kind", [FOREIGN, OWN])
def test_members_of_the_archive_that_are_lost_swapped_or_blown_up_never_give_another_score(whole, kind):
    content = whole[kind]
    wanted = _whole_answer(kind, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    changes: dict[str, bytes] = {}
    for one, value in list(members.items())[:5]:
        for how, instead in {
            "lost": [],
            "renamed": [(f"{one}\n\x1b[2J", value)],
            "short": [(one, value[:-1])],
            "long": [(one, value + b"\0")],
            "empty": [(one, b"")],
            "twice": [(one, value), (f"./{one}", value)],
        }.items():
            changes[f"{one} {how}"] = _rewritten(content, lambda n, v, o=one, i=instead: i if n == o else [(n, v)])
        other = next(name for name in members if len(members[name]) != len(value))
        swapped = {one: members[other], other: value}
        changes[f"{one} swapped"] = _rewritten(content, lambda n, v, s=swapped: [(n, s.get(n, v))])
    changes["deflated"] = _rewritten(content, lambda n, v: [(n, v)], compression=zipfile.ZIP_DEFLATED)
    changes["bomb"] = _rewritten(
        content,
        lambda n, v: [(n, bytes(200_000_000) if n == "data.pkl" else v)],
        compression=zipfile.ZIP_DEFLATED,
    )
    for name, changed in changes.items():
        found = _answer(kind, changed)
        assert found is None or np.array_equal(found, wanted), name
    for at in (20, 24, 42):  # the sizes and the place that the directory has of each member
        for size in (0, 1, 2**31, 2**32 - 1):
            changed = bytearray(content)
            entry = -1
            for _ in range(3):
                entry = changed.index(b"PK\x01\x02", entry + 1)
                struct.pack_into("<I", changed, entry + at, size)
                found = _answer(kind, bytes(changed))
                assert found is None or np.array_equal(found, wanted), (at, size)


def _reduced(function: str, *arguments: Any) -> bytes:
    """A pickle of a call."""
    module, _, name = function.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R."


def _again_and_again(function: str) -> bytes:
    """A list of 20,000 numbers, and 20,000 copies of it: 3 GB of a file of 200 KB."""
    module, _, name = function.rpartition(".")
    big = b"](" + b"K\x01" * 20_000 + b"eq\x00"
    return (
        b"\x80\x02"
        + big
        + b"c"
        + f"{module}\n{name}\n".encode()
        + b"q\x01"
        + b"]("
        + b"h\x01h\x00\x85R" * 20_000
        + b"e."
    )


PICKLES = {
    "code": _reduced("os.system", "touch ran"),
    "code by new": b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85\x81.",
    "code in old style": b"(S'touch ran'\nios\nsystem\n.",
    "code by name": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",
    "a terabyte of bytes": _reduced("builtins.bytearray", 10**12),
    "a terabyte of numbers": _reduced("numpy.ndarray", (10**12,)),
    "a terabyte of storage": _reduced("torch.storage.UntypedStorage", 10**12),
    "copies of a list": _again_and_again("builtins.list"),
    "copies of a set": _again_and_again("builtins.set"),
    "copies of a dictionary": _again_and_again("collections.OrderedDict"),
    "copies of a count": _again_and_again("collections.Counter"),
    "a name of names, each twice as long": b"\x80\x04\x8c\x08abcdefgh\x94"
    + b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x93\x94" for n in range(60))
    + b".",
    "a memo of a terabyte": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a text of an exabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".",
    "bytes of an exabyte": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "dictionaries in dictionaries": b"\x80\x02" + b"}X\x05\x00\x00\x00model" * 10_000 + b"N" + b"s" * 10_000 + b".",
    "tuples in tuples as a key": b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns.",
    "a dictionary in itself": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "marks": b"\x80\x02" + b"(" * 300_000 + b".",
    "steps without end": b"\x80\x02" + b"N0" * 600_000 + b"N.",
    "pop of nothing": b"\x80\x020000.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "a buffer from outside": b"\x80\x05\x97.",
    "an extension": b"\x80\x02\x82\x01.",
    "an identity in text": b"Psomething\n.",
    "an unknown storage": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a state of a function": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aNsb.",
}


def test_pickles_that_run_code_or_ask_for_memory_are_refused_and_nothing_is_run(whole, folder):
    for name, pickled in PICKLES.items():
        assert _answer(FOREIGN, _with_pickle(whole[FOREIGN], pickled)) is None, name
        assert len(pickled) > 10**6 or _answer(FOREIGN, pickled) is None, name
    assert not (folder / "ran").exists()


def test_of_a_pickle_with_other_bytes_nothing_comes_but_weights_or_a_refusal(whole):
    """Its checksum is made right again: this is no damage, but what somebody may have written."""
    pickled = _pickle_of(whole[FOREIGN])
    random = np.random.default_rng(1)
    for _ in range(100):
        changed = bytearray(pickled)
        for place in random.integers(0, len(pickled), int(random.integers(1, 4))):
            changed[place] = int(random.integers(256))
        _answer(FOREIGN, _with_pickle(whole[FOREIGN], bytes(changed)))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # torch makes such tensors under protest
def test_tensors_of_another_kind_and_odd_names_are_refused():
    w = _weights()
    first = w["1.weight"]
    quantised = torch.quantize_per_tensor(first, 0.1, 0, torch.qint8)
    others = {
        "another shape": first.T,
        "one number": torch.tensor(1.0),
        "no number": torch.zeros(0),
        "one number for all": torch.zeros(1).expand(10**6, 10**6),
        "complex": first.to(torch.complex64),
        "whole numbers": first.to(torch.int64),
        "truths": first > 0,
        "NaN": torch.full_like(first, torch.nan),
        "infinite": torch.full_like(first, torch.inf),
        "sparse": first.to_sparse(),
        "sparse by rows": first.to_sparse_csr(),
        "quantised": quantised,
        "without values": first.to("meta"),
        "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "an array": first.numpy(),
        "None": None,
    }
    for name, value in others.items():
        assert _answer(FOREIGN, _saved({"model": w | {"1.weight": value}})) is None, name
    names = (1, b"1.weight", None, 1.5, ("1.weight",), "", "1.weight\n", "\x1b[2J1.weight", "\u202e", "x" * 10**6)
    names += ("\ud800",)
    wanted = _whole_answer(FOREIGN, _saved(w))
    for name in names:
        found = _answer(FOREIGN, _saved({**w, name: first}))
        assert found is None or np.array_equal(found, wanted), repr(name)[:50]
        assert _answer(FOREIGN, _saved({"state_dict": {name: first}})) is None, repr(name)[:50]


def test_files_without_checksums_are_refused_where_their_form_is_hurt():
    """Of safetensors and of torch's older form, numbers that were changed are other numbers: nothing tells."""
    content = _saved(_weights(), _use_new_zipfile_serialization=False)
    assert _whole_answer(FOREIGN, content).any()
    random = np.random.default_rng(2)
    for _ in range(60):
        place = int(random.integers(len(content) - 1))
        assert _answer(FOREIGN, content[:place]) is None
        _answer(FOREIGN, content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    for numbers in (10**12, 2**62, -1):
        pickled = content.replace(b"M\x00\x06", b"\x8a\x08" + struct.pack("<q", numbers))
        assert pickled != content
        assert _answer(FOREIGN, pickled) is None


def test_the_command_refuses_such_a_file_in_one_line(whole, folder):
    hurt = bytearray(whole[FOREIGN])
    hurt[hurt.find(_weights()["1.weight"].numpy().tobytes()) + 3] ^= 0xFF
    Path("weights").write_bytes(hurt)
    command = [sys.executable, "-m", "raycnn", "score", "run", "--model", FOREIGN, "--device", "cpu"]
    command += ["--set", "data.name=shapes", "--set", "data.train_images=50", "--set", "data.test_images=60"]
    done = subprocess.run([*command, "--set", "scoring.score=[]"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "raycnn: weights: cannot be read as weights alone (Bad CRC-32 for file 'archive/data/0'). "
        "Save weights alone: torch.save(network.state_dict(), 'weights.pt')."
    ]
