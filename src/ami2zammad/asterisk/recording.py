"""Recordings: a raw AMI stream in a file, whose events carry their time.

`Timestamp: <unix seconds>.<micros>` is what Asterisk itself writes with `timestampevents = yes`; the writer adds it
where it is missing. A recording replays to the very signals that the live stream gave.
"""

from __future__ import annotations

import math
import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from ami2zammad.asterisk.actions import StatusReader, action_id_of
from ami2zammad.asterisk.errors import NotARecording
from ami2zammad.asterisk.events import EVENTS, event_name, raw_header
from ami2zammad.asterisk.framing import LINE_END, MESSAGE_END, MESSAGE_LIMIT, Framer
from ami2zammad.asterisk.protocol import GREETING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ami2zammad.asterisk.redaction import Redactor
    from ami2zammad.asterisk.waiting import Clock
    from ami2zammad.calls.signalling import Signal

STEP: Final = 0.001
"""Seconds between two events that carry no time."""
_CHUNK: Final = 64 * 1024
_FIRST_LINE: Final = re.compile(rb"\s*(?:Asterisk Call Manager|Event: |Response: )")
_CHALLENGE: Final = re.compile(rb"(?<=\r\nChallenge: )[^\r\n]*")
_OPEN_LISTS: Final = 16
"""Answers to Status that may be open at once in a recording."""


def read_messages(path: Path) -> Iterator[tuple[float, bytes]]:
    """Give each message with its time in seconds: its own, or a millisecond after the one before; never going back.

    Reads as it goes. Lines may end with CRLF or (a file that went through an editor) LF; greetings are left out, as
    is a last message that breaks off in the middle of a line. Raises NotARecording, and OSError as `open` does.
    """
    at = 0.0
    for message in _raw_messages(path):
        at = max(at, _time_of(message)) if b"\r\nTimestamp: " in message else at + STEP
        yield at, message


def read_recording(path: Path) -> Iterator[Signal]:
    """Give the recording's signals, `at` in Unix seconds, as a live session would have given them.

    Raises what `read_messages` raises.
    """
    listings: dict[str, StatusReader] = {}
    for at, message in read_messages(path):
        name = event_name(message)
        reader = EVENTS.get(name)
        signal: Signal | None = None
        if reader is not None:
            signal = reader(message, at)
        elif name in {b"Status", b"StatusComplete"}:
            action_id = action_id_of(message)
            if len(listings) < _OPEN_LISTS or action_id in listings:
                signal = listings.setdefault(action_id, StatusReader(action_id)).read(message, at)
            if name == b"StatusComplete":
                listings.pop(action_id, None)
        if signal is not None:
            yield signal


def _raw_messages(path: Path) -> Iterator[bytes]:
    framer = Framer()
    with path.open("rb") as file:
        chunk = file.read(_CHUNK)
        if not _FIRST_LINE.match(chunk):
            problem = "it begins with no AMI greeting, event or response" if chunk else "it is empty"
            raise NotARecording(str(path), problem)
        # White space in front may hold an LF of its own; the first line with text decides.
        first_line = chunk.lstrip().partition(b"\n")[0]
        framer.lf_only = not first_line.endswith(b"\r")
        while chunk:
            for message in framer.feed(chunk):
                yield from _without_greeting(message)
            if framer.overflowed:
                raise NotARecording(str(path), f"a message is larger than {MESSAGE_LIMIT} bytes")
            chunk = file.read(_CHUNK)
    last = framer.rest()
    if last.endswith(LINE_END):
        yield from _without_greeting(last)


def _without_greeting(message: bytes) -> Iterator[bytes]:
    message = message.strip(LINE_END)
    if message.startswith(GREETING):
        message = message.partition(LINE_END)[2]
    if message:
        yield message


def _time_of(message: bytes) -> float:
    try:
        at = float(raw_header(message, b"\r\nTimestamp: "))
    except ValueError:
        return 0.0
    return at if math.isfinite(at) else 0.0


class RecordingWriter:
    """A session's tap: writes each message that comes in, redacted if there is a `redactor`.

    What goes out is never seen here, hence never the secret; of an MD5 login the challenge is left out too. `clock`
    gives Unix seconds for events without a time. `count` messages were written.
    """

    def __init__(self, file: BinaryIO, *, redactor: Redactor | None = None, clock: Clock = time.time) -> None:
        self._file = file
        self._redactor = redactor
        self._clock = clock
        self.count = 0

    @classmethod
    @contextmanager
    def create(cls, path: Path, *, redactor: Redactor | None = None) -> Iterator[RecordingWriter]:
        """Write into a new file, which its owner alone may read. Raises OSError, FileExistsError among them."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield cls(file, redactor=redactor)

    def __call__(self, message: bytes) -> None:
        """Write one message, given without the empty line at its end."""
        message = message.strip(LINE_END)
        if not message:
            return
        if message.startswith(GREETING):
            self._file.write(message + LINE_END)
            return
        if event_name(message) and b"\r\nTimestamp: " not in message:
            first, _, others = message.partition(LINE_END)
            message = b"%s\r\nTimestamp: %.6f\r\n%s" % (first, self._clock(), others)
        message = _CHALLENGE.sub(b"(left out)", message)
        if self._redactor is not None:
            message = self._redactor.redact(message)
        self._file.write(message.rstrip(LINE_END) + MESSAGE_END)
        self.count += 1
