"""What the doctor makes of what it sees, and the whole command on this machine."""

import dataclasses
import errno
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raycnn.data import cifar
from raycnn.invocation import command
from raycnn.search import doctor
from raycnn.search.bandwidth import nccl_transport
from raycnn.search.doctor import Finding, gpus, images, shared_memory, storage_rates, versions


def facts(**changed: Any) -> dict[str, Any]:
    own = dict.fromkeys(("python", *doctor.PACKAGES, "raycnn's code"), "1.0")
    return {
        "versions": own | changed.pop("versions", {}),
        "cards": [],
        "nvidia": [],
        "gpus of Ray": 0.0,
        "shm": 2**33,
    } | changed


def test_other_versions_on_a_node_are_named():
    assert versions({"a": facts(), "b": facts()}).mend == ""
    found = versions({"a": facts(), "b": facts(versions={"torch": "2.0"})})
    assert found.seen == "torch is 1.0 and 2.0"
    assert found.mend
    code = versions({"a": facts(), "b": facts(versions={"raycnn's code": "other"})})
    assert code.seen == "raycnn's code is 1.0 and other"


CARD = "570.1, H100"
CUDA = {"CUDA of torch": "13.0", "NCCL": "2.28"}


def test_cards_that_torch_cannot_use_are_to_mend():
    assert [f.mend for f in gpus({"a": facts()})] == [""]
    (blind,) = gpus({"a": facts(nvidia=[CARD, CARD], cards=["H100"], **{"gpus of Ray": 2.0})})
    assert blind.seen == "Ray counts 2, torch can use 1"
    assert "driver" in blind.mend
    well = facts(nvidia=[CARD], cards=["H100"], versions=CUDA, **{"gpus of Ray": 1.0})
    assert list(gpus({"a": well})) == [Finding("GPUs of a", "1 x H100, driver 570.1, CUDA 13.0, NCCL 2.28")]


def test_cards_that_ray_is_not_to_see_are_told_and_nothing_to_mend():
    one = facts(nvidia=[CARD] * 8, cards=["H100"], versions=CUDA, **{"gpus of Ray": 1.0})
    (found,) = gpus({"a": one})
    assert found.seen.startswith("1 x H100, driver 570.1, 7 more that Ray does not count")
    assert not found.mend
    (none,) = gpus({"a": facts(nvidia=[CARD] * 8)})
    assert none.seen.startswith("none that Ray counts, 8 that the driver sees; see CUDA_VISIBLE_DEVICES")


def test_little_shared_memory_is_to_mend():
    assert shared_memory({"a": facts(), "b": facts(shm=2**26)}).mend
    assert not shared_memory({"a": facts()}).mend


def test_storage_is_timed_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "STORAGE_BYTES", 2**16)
    written, read = storage_rates(str(tmp_path))
    assert written > 0
    assert read > 0
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(doctor, "STORAGE_BYTES", 2**16)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage_rates(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\nNCCL INFO GPU/1000 :NVL[40.0]", "NVLink"),
        ("NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC", "PCIe"),
        ("NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct", "shared memory"),
        ("NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IB/0\n… via P2P/IPC", "InfiniBand"),
        ("NCCL INFO Channel 00/0 : 1[0] -> 0[0] [send] via NET/Socket/0\n… via NET/IB/0", "socket"),
        ("", "unknown"),
    ],
)
def test_the_slowest_transport_of_an_nccl_log_is_told(log: str, said: str):
    assert said in nccl_transport(log)[0]


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CIFAR-10 whose checksums are taken for the official ones; downloads fail the test."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    official = cifar.OFFICIAL["cifar10"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    for file in official.train | official.test:
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 9]}, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    md5 = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    changes = {group: {name: md5[name] for name in getattr(official, group)} for group in ("train", "test", "meta")}
    monkeypatch.setitem(cifar.OFFICIAL, "cifar10", dataclasses.replace(official, **changes))
    monkeypatch.setattr(cifar, "download", lambda *_: pytest.fail("downloaded"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
    return folder


def test_official_images_are_well(cifar10: Path):
    assert images("cifar10", str(cifar10.parent)) == Finding("data cifar10", "15 training images, hashes right")


def test_images_that_are_not_official_or_not_there_are_to_mend_and_nothing_is_downloaded(cifar10: Path):
    batch = cifar10 / "data_batch_2"
    batch.write_bytes(batch.read_bytes().replace(b"labels", b"labelz"))
    other = images("cifar10", str(cifar10.parent))
    assert f"{batch}: MD5" in other.seen
    assert other.mend.startswith("Replace it by the official file")
    batch.unlink()
    fetch = command("fetch", "cifar10", "--data", cifar10.parent)
    assert images("cifar10", str(cifar10.parent)).mend == f"Get it: {fetch}"


def test_a_data_set_of_another_name_is_refused_in_one_line(tmp_path: Path):
    command = [sys.executable, "-m", "raycnn", "doctor", "--data", str(tmp_path), "--name", "foo"]
    done = subprocess.run([*command, "--run", str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert done.stderr == "raycnn: --name foo: is not known. Choose from cifar10, cifar100, folder, shapes.\n"
    assert done.stdout == ""


def test_the_command_looks_at_this_machine(tmp_path: Path):
    command = [sys.executable, "-m", "raycnn", "doctor", "--run", str(tmp_path), "--data", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    well = [line for line in lines if line.startswith("ok    ")]
    for what in ("versions", "clocks", "/dev/shm", f"storage {tmp_path}", "token: on", "all-reduce: gloo, 2 ranks"):
        assert any(what in line for line in well), done.stdout
    assert next(line for line in lines if line.startswith("MEND")).startswith("MEND  data cifar10: ")
    assert lines[-1] == "1 to mend"
    assert not list(tmp_path.iterdir())
