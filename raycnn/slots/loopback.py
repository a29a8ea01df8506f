"""A process group on one machine whose every socket is on the loopback interface. PyTorch's own meeting point listens
on all interfaces and asks nobody who they are."""

import os
import socket
from datetime import timedelta
from typing import Any

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")


def is_loopback_host(host: str) -> bool:
    """Whether an HTTP request's Host names this machine's loopback, with any port: SSH may forward another."""
    name, colon, port = host.rpartition(":")
    return (name if colon else port) in _NAMES


def on_loopback() -> bool:
    """Whether the Ray cluster that this process belongs to is on the loopback interface, so on this machine alone."""
    import ray

    return ray.util.get_node_ip_address() == ADDRESS


def store(port: int, rank: int, size: int, timeout: timedelta) -> Any:
    """Where the ranks of a group meet: rank 0 listens, on 127.0.0.1."""
    from torch._C._distributed_c10d import TCPStore

    if rank:
        return TCPStore(ADDRESS, port, size, is_master=False, timeout=timeout)
    listener = socket.create_server((ADDRESS, port))
    return TCPStore(ADDRESS, port, size, is_master=True, timeout=timeout, master_listen_fd=listener.detach())


def use_interface() -> None:
    """Gloo and NCCL open their sockets on the loopback interface in processes that are started from here on."""
    name = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, name)
