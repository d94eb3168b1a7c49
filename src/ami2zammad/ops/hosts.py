"""Which addresses and names mean this machine and nobody else."""

from __future__ import annotations

import ipaddress


def is_loopback_address(address: str) -> bool:
    """Say whether only this machine reaches `address`; False for what is no address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def is_loopback_host(host: str, *others: str) -> bool:
    """Say whether a Host header names this machine: by a loopback address, as localhost, or as one of `others`."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.rstrip(".")
    return (
        name == "localhost"
        or name.endswith(".localhost")
        or is_loopback_address(name)
        or name in {other.lower() for other in others}
    )
