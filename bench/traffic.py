"""What an Asterisk sends, as long as one likes, each call with identities of its own: recorded, or made up."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import cast

from ami2zammad.asterisk.events import event_name
from ami2zammad.asterisk.framing import MESSAGE_END
from ami2zammad.asterisk.recording import read_messages
from ami2zammad.sandbox.live_calls import LiveCalls, Phone
from ami2zammad.sandbox.pbx import PbxSandbox

RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
LAST = b"Event: BenchmarkEnd\r\nPrivilege: user,all\r\n\r\n"
"""Ends a stream, for clients that see all events."""
LAST_CALL = "1999999999.1"
"""Uniqueid of the caller of the last call, for the bridge, which only sees calls."""

_IDENTITY = re.compile(rb"(?<=[Uu]niqueid: )\d+(?=\.)|(?<=[Ll]inkedid: )\d+(?=\.)")
# The recordings were made within a quarter of an hour: no round reaches into the next.
_ROUND = 100_000
_EPOCH = 1_700_000_000.0


def full_account() -> list[Path]:
    """Return the recordings of an Asterisk 22 and an account that reads every class of events."""
    return sorted((RECORDINGS / "22-full").glob("*.ami"))


def messages_of(recordings: list[Path]) -> list[bytes]:
    """Return the events of `recordings`, one call after the other."""
    messages = [message for path in recordings for _, message in read_messages(path) if event_name(message)]
    if not messages:
        sys.exit("no recordings with events: name one as an argument")
    return messages


def stream_of(recordings: list[Path], events: int) -> tuple[bytes, int]:
    """Return a stream of at least so many events, the recordings again and again, and how many it has.

    It ends with a short call under `LAST_CALL`, and with `LAST`.
    """
    messages = messages_of(recordings)
    rounds = -(-events // len(messages))
    one = MESSAGE_END.join(messages) + MESSAGE_END
    stream = b"".join(shifted(one, number * _ROUND) for number in range(rounds))
    return stream + _last_call() + LAST, len(messages) * rounds


class _Tape:
    """Stands for a PBX, and keeps what is sent."""

    def __init__(self) -> None:
        self.channels: dict[str, dict[str, str]] = {}
        self.sent: list[bytes] = []

    async def send(self, raw: bytes) -> None:
        """Keep it."""
        self.sent.append(raw)


def calls(count: int) -> bytes:
    """Return a stream in which `count` calls begin, are answered and end, all up at the same time."""
    tape = _Tape()

    async def play() -> None:
        live = LiveCalls(cast("PbxSandbox", tape), clock=lambda: _EPOCH)
        phones = [Phone(str(100 + number), f"Agent {number}") for number in range(50)]
        begun = [
            await live.inbound(f"49176{number:08}", "4930600100", phones[number % len(phones)])
            for number in range(count)
        ]
        for call in begun:
            await call.answer()
        for call in begun:
            await call.hang_up()

    # Nothing in it waits for anything.
    with contextlib.suppress(StopIteration):
        play().send(None)
    return b"".join(tape.sent)


def shifted(stream: bytes, seconds: int) -> bytes:
    """Return `stream` as it would have been that many seconds later, as far as identities go."""
    if not seconds:
        return stream
    return _IDENTITY.sub(lambda found: b"%d" % (int(found[0]) + seconds), stream)


def _last_call() -> bytes:
    headers = (
        f"Channel: PJSIP/trunk-ffffffff\r\nChannelState: 4\r\nCallerIDNum: 4917699999999\r\nContext: from-trunk\r\n"
        f"Exten: 4930600100\r\nUniqueid: {LAST_CALL}\r\nLinkedid: {LAST_CALL}\r\n"
    )
    return f"Event: Newchannel\r\n{headers}\r\nEvent: Hangup\r\n{headers}Cause: 16\r\n\r\n".encode()
