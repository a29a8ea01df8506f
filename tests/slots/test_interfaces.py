"""The network interface of a process group, and the group's first collective, made for real by one rank."""

import os
import socket

import pytest
import ray
import torch
import torch.distributed as dist

from raycnn.slots import group, loopback
from raycnn.slots.interfaces import CHOICES, interface_of, use_interface_of


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CHOICES:
        monkeypatch.setenv(name, "")  # so that what the test sets is undone
        monkeypatch.delenv(name)


def test_ranks_talk_through_the_interface_of_the_nodes_address():
    first = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    assert use_interface_of("127.0.0.1") == interface_of("127.0.0.1") == first
    assert os.environ["GLOO_SOCKET_IFNAME"] == first
    assert os.environ["NCCL_SOCKET_IFNAME"] == f"={first}", "exactly this one, not all that begin so"


def test_an_interface_that_the_user_has_named_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "^docker0")
    use_interface_of("127.0.0.1")
    assert [os.environ[name] for name in CHOICES] == ["ib0", "^docker0"]


def test_an_address_of_no_interface_chooses_none():
    assert use_interface_of("192.0.2.1") == ""
    assert not set(CHOICES) & set(os.environ)


@pytest.fixture
def on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank on a cluster of several nodes, which is told where its group meets."""
    monkeypatch.setattr(loopback, "on_loopback", lambda: False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("ray.train.torch.config._set_torch_distributed_env_vars", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))


def backend_timeout_s() -> float:
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    return backend.options._timeout.total_seconds()


@pytest.mark.usefixtures("on_a_cluster")
def test_a_group_is_made_on_that_interface_and_its_tasks_have_longer_than_its_start():
    try:
        group.form(torch.device("cpu"), 0, 1, 30.0)
        assert os.environ["GLOO_SOCKET_IFNAME"] == interface_of("127.0.0.1")
        assert backend_timeout_s() == group.WORK_S
    finally:
        dist.destroy_process_group()


@pytest.mark.usefixtures("on_a_cluster")
def test_an_interface_that_is_not_there_is_named_by_the_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    with pytest.raises(RuntimeError, match="nowhere0"):
        group.form(torch.device("cpu"), 0, 1, 30.0)


@pytest.mark.usefixtures("on_a_cluster")
def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_the_limit():
    with pytest.raises(RuntimeError, match=r"(?i)time"):
        group.form(torch.device("cpu"), 1, 2, 1.0)
