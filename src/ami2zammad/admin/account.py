"""The bridge's account in Asterisk's manager.conf, as `init` proposes it where there is none."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass, field
from typing import Final, Self

READ: Final = "call,agent"
WRITE: Final = "call,originate"
"""The least rights (docs and tests say what for); `check` and the README name the same."""

_SECRET_BYTES: Final = 24
_UNUSABLE: Final = re.compile(r"[\[\];()#\x00-\x1f\x7f]")

_LOOPBACK: Final = ("127.0.0.1", "::1")

_TEMPLATE: Final = """\
; The account of ami2zammad in Asterisk's manager interface (AMI).
[{username}]
secret = {secret}
deny = 0.0.0.0/0.0.0.0
deny = ::/0
{permits}
read = {read}
write = {write}
; A client that does not read is cut off after so many milliseconds, so that it never holds up Asterisk.
writetimeout = 5000
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account that is still to be made in Asterisk. `addresses` are those from which the bridge may connect."""

    username: str
    secret: str = field(repr=False)
    addresses: tuple[str, ...] = _LOOPBACK

    @classmethod
    def new(cls, username: str, host: str, port: int, *, secret: str = "") -> Self:
        """Think of a secret unless one is given, and find out how this machine would connect to Asterisk."""
        usable = secret and not re.search(r"[\s;]", secret)
        return cls(username, secret if usable else secrets.token_urlsafe(_SECRET_BYTES), _own_addresses(host, port))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `snippet` wrote; None if it is something else."""
        username = re.search(r"^\[(.+)\]$", text, re.MULTILINE)
        secret = re.search(r"^secret = (\S+)$", text, re.MULTILINE)
        addresses = re.findall(r"^permit = ([^/\s]+)", text, re.MULTILINE)
        return cls(username[1], secret[1], tuple(addresses)) if username and secret and addresses else None

    def snippet(self, *, hidden: str = "") -> str:
        """Return the lines for manager.conf; `hidden` stands in for the secret."""
        permits = "\n".join(f"permit = {ipaddress.ip_network(address)}" for address in self.addresses)
        return _TEMPLATE.format(
            username=self.username, secret=hidden or self.secret, permits=permits, read=READ, write=WRITE
        )


def name_problem(username: str) -> str:
    """Say what keeps a name from being one of manager.conf; empty if nothing does."""
    return "must not contain brackets, ; or #" if _UNUSABLE.search(username) else ""


def _own_addresses(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses that Asterisk may see us come from (nothing is sent); loopback if they cannot be told."""
    found: list[str] = []
    try:
        ways = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        ways = []
    for family, kind, _, _, address in ways:
        # Without a way there in that family nothing would ever come from it.
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            probe.connect(address)
            found.append(str(probe.getsockname()[0]).partition("%")[0])
    # `localhost` is either of the two, whichever Asterisk listens on.
    if not found or any(ipaddress.ip_address(one).is_loopback for one in found):
        found += _LOOPBACK
    return tuple(dict.fromkeys(found))
