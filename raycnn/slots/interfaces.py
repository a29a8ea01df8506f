"""Which network interface the ranks of a group talk through."""

import os

import ray  # noqa: F401 for psutil, which it brings

CHOICES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def use_interface_of(address: str) -> str:
    """Gloo and NCCL open their sockets on the interface that has this address, unless the user has named one; for
    process groups that this process makes from here on. The interface's name, empty if none has the address.

    Left to themselves both guess: gloo by what the host's name resolves to, NCCL by order. On a machine with a
    container's bridge, a VPN or a second network that is often one that the other nodes cannot reach.
    """
    name = interface_of(address)
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # without the sign: all whose names begin so
    return name


def interface_of(address: str) -> str:
    """The network interface with this address; empty if there is none."""
    import psutil  # pyright: ignore[reportMissingModuleSource]

    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return name
    return ""
