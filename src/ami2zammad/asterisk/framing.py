"""Cuts the bytes of an AMI stream into messages. The hot path: nothing is decoded or parsed here.

A message is a block of `Name: value` lines and ends with an empty line.
"""

from __future__ import annotations

LINE_END = b"\r\n"
MESSAGE_END = b"\r\n\r\n"
MESSAGE_LIMIT = 256 * 1024
"""Bytes of one message at most. The largest that a real Asterisk sends (ListCommands) has some 15 KiB."""


class Framer:
    """Collects segments and gives complete messages, without their empty line; one for each stream.

    Lines end with CRLF, as Asterisk sends them: an LF inside a value must not be able to begin another
    message. Only where the very first line of a stream ends with a bare LF (a recording that went through an
    editor) does every LF count: set `lf_only` then, before the first `feed`.

    `overflowed` turns true when a message gets larger than `limit` bytes; nothing comes out after that.
    """

    __slots__ = ("_limit", "_rest", "lf_only", "overflowed")

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._limit = limit
        self._rest = b""
        self.lf_only = False
        self.overflowed = False

    def feed(self, segment: bytes) -> list[bytes]:
        """Take the next bytes of the stream, cut anywhere; give the messages that they complete.

        A message can begin with a line end if more than one empty line stood before it, and can be empty.
        """
        if self.overflowed:
            return []
        buffer = self._rest + segment if self._rest else segment
        if self.lf_only:
            # A CR at the end may be half of a CRLF: it is joined with the next segment before it is judged.
            buffer = buffer.replace(LINE_END, b"\n").replace(b"\n", LINE_END)
        messages = buffer.split(MESSAGE_END)
        self._rest = messages.pop()
        if len(buffer) > self._limit and max(map(len, messages), default=0) + len(self._rest) > self._limit:
            self._refuse_large(messages)
        return messages

    def rest(self) -> bytes:
        """Give what came after the last complete message, and forget it."""
        rest, self._rest = self._rest, b""
        return rest

    def _refuse_large(self, messages: list[bytes]) -> None:
        for position, message in enumerate(messages):
            if len(message) > self._limit:
                del messages[position:]
                self.overflowed = True
                break
        if self.overflowed or len(self._rest) > self._limit:
            self.overflowed = True
            self._rest = b""
