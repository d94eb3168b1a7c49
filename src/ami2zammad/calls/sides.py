"""Which side a channel is on: outside, inside, or Asterisk itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from fnmatch import translate
from typing import Final

DEFAULT_TRUNK_CONTEXTS: Final = ("from-trunk*", "from-pstn*", "from-did*", "from-external*", "from-provider*")
"""What FreePBX and common guides call the context of calls from outside."""

# Asterisk's own channel technologies: they stand between devices and never are one.
_PLUMBING: Final = frozenset(
    {
        "Announcer",
        "AsyncGoto",
        "AudioSocket",
        "Bridge",
        "CBAnn",
        "CBRec",
        "Local",
        "Message",
        "MulticastRTP",
        "OutgoingSpoolFailed",
        "Parked",
        "Recorder",
        "Snoop",
        "Surrogate",
        "UnicastRTP",
        "WebSocket",
    }
)
# `-0000001a`, and `;1` of a Local half; `<ZOMBIE>` and `<MASQ>` are what a masquerade leaves behind.
_SUFFIX: Final = re.compile(r"-[0-9a-fA-F]+(;\d)?$")
_DEAD: Final = re.compile(r"<(?:ZOMBIE|MASQ)>$")


class Side(Enum):
    """Where a channel leads."""

    OUTSIDE = "outside"
    """A trunk."""
    INSIDE = "inside"
    """An agent's device."""
    PLUMBING = "plumbing"
    """Asterisk itself."""


def base_name(name: str) -> str:
    """Return a channel's name without its suffix: `PJSIP/trunk` of `PJSIP/trunk-0000001a`."""
    return _SUFFIX.sub("", name)


class TrunkPatterns:
    """Knows trunks by globs on channel names and on the context in which a channel was created."""

    def __init__(self, trunks: Iterable[str] = (), contexts: Iterable[str] = DEFAULT_TRUNK_CONTEXTS) -> None:
        self._name = _any_of(trunks)
        self._context = _any_of(contexts)

    def side_of(self, name: str, context: str) -> Side:
        """Return the side of the channel `name` that was created in `context`."""
        if name.partition("/")[0] in _PLUMBING or _DEAD.search(name):
            return Side.PLUMBING
        if self._name.fullmatch(base_name(name)) or self._context.fullmatch(context):
            return Side.OUTSIDE
        return Side.INSIDE


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    patterns = [translate(glob) for glob in globs]
    return re.compile("|".join(patterns) if patterns else r"(?!)")
