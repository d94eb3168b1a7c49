"""AMI on the wire: bytes in, signals and answers out.

panoramisk's protocol with its dangerous parts replaced (measured on 1.4): it decodes segments one by one, bounds
nothing, writes values unchecked, and keeps unanswered actions to send them again after a reconnect. Its Action
and Message, by which an answer finds its question, are used as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

from ami2zammad.asterisk.actions import action_id_of
from ami2zammad.asterisk.errors import (
    AsteriskError,
    AsteriskStopped,
    ConnectionLost,
    GarbledAnswer,
    MessageTooLarge,
    TooManyActions,
    quoted,
)
from ami2zammad.asterisk.events import EVENTS, READERS, event_name
from ami2zammad.asterisk.framing import LINE_END, MESSAGE_LIMIT, Framer

if TYPE_CHECKING:
    from ami2zammad.asterisk.actions import Request
    from ami2zammad.asterisk.events import EventReader
    from ami2zammad.asterisk.waiting import Clock
    from ami2zammad.calls.signalling import Signal

Sink = Callable[[list["Signal"]], None]
"""Takes the signals of one segment, in order. Must not raise, block or keep the loop."""
Tap = Callable[[bytes], None]
"""Takes each complete message that came in, the greeting too, without the empty line at its end."""

GREETING: Final = b"Asterisk Call Manager"
_GREETING_LIMIT: Final = 1024
_PENDING_LIMIT: Final = 1000
"""Actions that wait for an answer at once."""
_HEADER_LIMIT: Final = 4096
"""Headers of one message of an answer (ListCommands has one a command: some 150)."""
_ANSWER_LIMIT: Final = 50_000
"""Messages of one answer (Status has one a channel: 20,000 while 10,000 calls are up)."""
_IGNORED_LIMIT: Final = 1000
"""Kinds of events that are remembered as of no interest: Asterisk 22 has some 200."""
_NAME_LIMIT: Final = 100
"""Bytes of such a kind's first line; the longest of Asterisk 22 has 50."""
_SPECIAL: Final = frozenset({b"Event: UserEvent", b"Event: Shutdown"})
"""First lines that do not say enough, or say more than about a call."""
_TLS_ALERT: Final = b"\x15\x03"
"""A TLS record: type alert (RFC 8446, 5.1), then the version's first byte."""


class Stranger(Exception):  # noqa: N818 -- a finding about the peer, on its way to becoming an error
    """What greets us is no AMI: `what` it is, or `tls` if it asks for TLS."""

    def __init__(self, what: str, *, tls: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.tls = tls


def recognise(head: bytes) -> Stranger | None:
    """Tell from the first bytes who the peer is, if it is known not to be Asterisk."""
    if head.startswith(b"SSH-"):
        return Stranger("an SSH server answers")
    if head.startswith(b"HTTP/"):
        return Stranger("a web server answers")
    if head.startswith(_TLS_ALERT):
        return Stranger("it expects TLS", tls=True)
    return None


class AmiProtocol(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """One connection. It ends once, for one reason, which `on_end` gets; nothing comes out of it afterwards.

    `greeting` completes with AMI's version, or fails with Stranger or with the reason of the end. `garbled`
    counts the messages that could not be understood, `messages` all.
    """

    # Of panoramisk's own, with their types.
    transport: asyncio.Transport
    responses: dict[str, Request]
    version: str | None
    closed: bool

    def __init__(
        self,
        manager: Any,  # noqa: ANN401 -- panoramisk has no types
        sink: Sink,
        clock: Clock,
        on_end: Callable[[AsteriskError], None],
        tap: Tap | None = None,
    ) -> None:
        self._manager = manager
        self._sink = sink
        self._clock = clock
        self._on_end = on_end
        self._tap = tap
        self._framer = Framer()
        self._head = b""
        self._ended = False
        self.greeting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Who opens the session may have been cancelled: asyncio shall not complain that nobody looked.
        self.greeting.add_done_callback(lambda greeting: greeting.cancelled() or greeting.exception())
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # First lines of events that no rule needs: what was judged once is not judged again.
        self._ignored: set[bytes] = set()
        self.messages = 0
        self.garbled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection stands."""
        super().connection_made(transport)
        self.factory = self._manager
        if self._ended:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Asyncio: the next bytes, cut anywhere."""
        if self._ended:
            return
        if not self.greeting.done():
            data = self._greet(data)
            if not data:
                return
        elif self.version is None:
            return  # a stranger goes on talking
        messages = self._framer.feed(data)
        if self._tap is not None:
            for message in messages:
                self._tap(message)
        signals = self._read(messages)
        if signals:
            self._sink(signals)
        if self._framer.overflowed:
            self.end(MessageTooLarge(MESSAGE_LIMIT))

    def _read(self, messages: list[bytes]) -> list[Signal]:
        # The hot path: some 200,000 messages a second when a large PBX restarts its queues.
        signals: list[Signal] = []
        at = self._clock()
        pending = self.responses
        readers, ignored = READERS, self._ignored
        self.messages += len(messages)
        for message in messages:
            request = pending.get(action_id_of(message)) if pending else None
            if request is not None:
                signal = self._answer(request, message, at)
            else:
                line_end = message.find(LINE_END)
                first_line = message[:line_end] if line_end > 0 else message
                # Most of a stream: events of no interest, which cost no more than this.
                if first_line in ignored:
                    continue
                reader = readers.get(first_line) or self._unfamiliar(message, first_line, signals)
                if reader is None:
                    if self._ended:
                        break
                    continue
                signal = reader(message, at)
                if signal is None:
                    self.garbled += 1
            if signal is not None:
                signals.append(signal)
        return signals

    def _unfamiliar(self, message: bytes, first_line: bytes, signals: list[Signal]) -> EventReader | None:
        """Find the reader of a message whose first line does not lead to it; see to those that need none."""
        if first_line not in _SPECIAL and first_line.startswith(b"Event: "):
            if len(self._ignored) < _IGNORED_LIMIT and len(first_line) < _NAME_LIMIT:
                self._ignored.add(first_line)
            return None
        name = event_name(message)
        reader = EVENTS.get(name)
        if reader is None:
            if name == b"Shutdown":
                self.end(AsteriskStopped())
            elif not name:
                self._other(message, signals)
        return reader

    def _other(self, message: bytes, signals: list[Signal]) -> None:
        """Treat what does not begin as an event: more empty lines than one, an answer to nobody, garbage."""
        stripped = message.lstrip(LINE_END)
        if not stripped:
            self.messages -= 1
        elif len(stripped) < len(message):
            self.messages -= 1
            signals.extend(self._read([stripped]))
        elif not message.startswith(b"Response: "):
            self.garbled += 1

    def _greet(self, data: bytes) -> bytes:
        """Take the greeting from the front of the stream; give what comes after it."""
        self._head += data
        stranger = recognise(self._head)
        line, line_end, rest = self._head.partition(b"\n")
        if stranger is None and (line_end or len(self._head) > _GREETING_LIMIT):
            if line.startswith(GREETING) and line_end:
                self._framer.lf_only = not line.endswith(b"\r")
                self.version = line.strip().rpartition(b"/")[2].decode("ascii", "replace")
                self.greeting.set_result(self.version)
                if self._tap is not None:
                    self._tap(line.rstrip(b"\r"))
                return rest
            stranger = Stranger(f"it greets with {quoted(line.decode('utf-8', 'replace').strip())}")
        if stranger is not None:
            self.greeting.set_exception(stranger)
        return b""

    def head(self) -> bytes:
        """Give the bytes that came in place of a greeting."""
        return self._head

    def _answer(self, request: Request, message: bytes, at: float) -> Signal | None:
        """Give a message to the action that it answers, which waits for it."""
        answer = None
        if message.count(LINE_END) <= _HEADER_LIMIT:
            answer = Message.from_line(message.strip(LINE_END).decode("utf-8", "replace"))
        if answer is None:
            self.garbled += 1
            return None
        signal = request.signal_of(message, at)
        try:
            self.handle_message(answer)
            garbled = len(request.responses) > _ANSWER_LIMIT
        except (AttributeError, TypeError, ValueError):
            # panoramisk stumbles over a header that comes twice.
            garbled = True
        if garbled and not request.future.done():
            self.garbled += 1
            request.future.set_exception(GarbledAnswer(request.name))
        return signal

    def send(self, data: Request, as_list: bool | None = None) -> asyncio.Future[Any]:  # noqa: ARG002, FBT001 -- panoramisk's signature
        """Write an action; its future gets the answer: one Message, or a list of them.

        The future fails with the reason of the end if the connection ends first; who gives up waiting cancels it.
        Raises HeaderInjection or TooManyActions before anything is written, ConnectionLost after the end.
        """
        if self._ended or self.closed:
            raise ConnectionLost("it was closed before the action could be sent")
        if len(self.responses) >= _PENDING_LIMIT:
            raise TooManyActions(_PENDING_LIMIT)
        wire = data.to_wire()
        action_id: str = data["ActionID"]
        future: asyncio.Future[Any] = data.future
        self.responses[action_id] = data
        future.add_done_callback(lambda _: self.responses.pop(action_id, None))
        self.transport.write(wire)
        return future

    def nudge(self) -> None:
        """Send bare line ends: harmless for AMI, but makes a web or TLS server show what it is.

        A TLS record header has five bytes, hence not less.
        """
        self.transport.write(LINE_END * 4)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Asyncio: the connection is gone."""
        if not self.lost.done():
            self.lost.set_result(None)
        self.end(ConnectionLost(type(exc).__name__ if exc is not None else "closed by the other side"))

    def end(self, reason: AsteriskError) -> None:
        """End the connection for this reason; the first reason counts. No action is kept to be sent again."""
        if self._ended:
            return
        self._ended = True
        if not self.greeting.done():
            self.greeting.set_exception(reason)
        for request in list(getattr(self, "responses", {}).values()):
            if not request.future.done():
                request.future.set_exception(reason)
        self.close()
        self._on_end(reason)

    def close(self) -> None:
        """Close the transport. In contrast to panoramisk's, nothing is put aside to be sent again."""
        if getattr(self, "transport", None) is not None and not self.closed:
            self.closed = True
            self.transport.close()
