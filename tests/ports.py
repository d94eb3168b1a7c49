"""Ports for servers that go away and come back.

A port that the system picks for a moment's listening is one that it also picks for outgoing connections: while the
server is away, somebody else can have it.
"""

from __future__ import annotations

import random
import socket

_BELOW_THOSE_OF_OUTGOING_CONNECTIONS = range(10240, 20000)
_given: set[int] = set()


def lasting_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody listens on, that the system gives to nobody, and that no other test has been given."""
    while True:
        port = random.choice(_BELOW_THOSE_OF_OUTGOING_CONNECTIONS)  # noqa: S311 - only to keep runs apart
        if port in _given:
            continue
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
