"""SIP phones and a SIP trunk, played from Python: the part of RFC 3261 that telephone calls need.

A :class:`UserAgent` is one device on one UDP port. A :class:`Call` is one dialog of it, in either direction.
A call that is up sends silence, because some of Asterisk's doings wait for a voice frame (it optimises a Local
channel away only then). What Asterisk sends is thrown away. DTMF goes as INFO.

The network is the loopback interface, which loses nothing, so requests are repeated (as RFC 3261 wants) but
the subtler timers are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import secrets
import struct
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import quote

PATIENCE = 20.0
"""Seconds to wait for something that a working Asterisk does within one or two."""

REPEAT = 0.5
"""Seconds until an unanswered request is sent again (T1 of RFC 3261), doubled each time."""

FRAME = 0.02
"""Seconds of sound in one RTP packet."""

SILENCE = bytes([0xD5]) * 160
"""So much silence in A-law."""

Address = tuple[str, int]

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    302: "Moved Temporarily",
    404: "Not Found",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    486: "Busy Here",
    487: "Request Terminated",
    503: "Service Unavailable",
    603: "Decline",
}

COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "c": "content-type",
    "l": "content-length",
}


class SipError(Exception):
    """The other side did something that a call cannot go on after."""


@dataclass(slots=True)
class Message:
    """A request or a response: its first line, its headers in order, its body."""

    first: str
    headers: list[tuple[str, str]]
    body: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Message:
        head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            headers.append((COMPACT.get(name, name), value.strip()))
        return cls(first, headers, body)

    def render(self) -> bytes:
        body = self.body.encode()
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    @property
    def status(self) -> int:
        """The status code of a response, 0 for a request."""
        return int(self.first.split(" ")[1]) if self.first.startswith("SIP/") else 0

    @property
    def method(self) -> str:
        """The method of a request, or of the request that this responds to."""
        return self.get("cseq").split(" ")[-1] if self.status else self.first.split(" ")[0]

    @property
    def uri(self) -> str:
        """The request URI."""
        return self.first.split(" ")[1]

    @property
    def sequence(self) -> int:
        return int(self.get("cseq").split(" ")[0])

    @property
    def branch(self) -> str:
        """The transaction's name."""
        found = re.search(r"branch=([^;,\s]+)", self.get("via"))
        return found.group(1) if found else ""

    def get(self, name: str, default: str = "") -> str:
        """Return the first header of that name (any case)."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), default)

    def all(self, name: str) -> list[str]:
        """Return all headers of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def media_of(sdp: str) -> Address | None:
    """Return where an SDP wants its sound sent."""
    host = re.search(r"^c=IN IP4 (\S+)", sdp, re.MULTILINE)
    port = re.search(r"^m=audio (\d+)", sdp, re.MULTILINE)
    return (host.group(1), int(port.group(1))) if host and port else None


def tag_of(header: str) -> str:
    """Return the tag of a From or To header."""
    found = re.search(r";tag=([^;,\s]+)", header)
    return found.group(1) if found else ""


def uri_of(header: str) -> str:
    """Return the URI of a From, To, Contact … header."""
    found = re.search(r"<([^>]*)>", header)
    return found.group(1) if found else header.split(";", maxsplit=1)[0].strip()


def user_of(header: str) -> str:
    """Return the user part (the telephone number) of such a header or of a bare URI."""
    found = re.match(r"(?:sips?|tel):([^@;>]*)(@)?", uri_of(header))
    return found.group(1) if found and (found.group(2) or uri_of(header).startswith("tel:")) else ""


@dataclass(eq=False)
class Call:
    """One dialog: a call that this device placed, or one that came in."""

    agent: UserAgent
    invite: Message
    """The INVITE that began it: as sent, or as received (with the headers that a test wants to see)."""
    incoming: bool
    local: str
    remote: str
    target: str
    """Where requests of this dialog go (the other side's Contact)."""
    status: int = 0
    """The last status of the INVITE that was received or sent."""
    response: Message | None = None
    """The last response to the INVITE (of a call placed)."""
    statuses: list[int] = field(default_factory=list)
    """All statuses of the INVITE in order."""
    up: bool = False
    over: bool = False
    cancelled: bool = False
    ended_by_us: bool = False
    notified: list[int] = field(default_factory=list)
    """What NOTIFY told about our REFER, as status codes."""
    media: Address | None = None
    """Where our sound goes."""
    sdp_version: int = 1
    sequence: int = 0

    @property
    def call_id(self) -> str:
        return self.invite.get("call-id")

    @property
    def from_header(self) -> str:
        """The From of the INVITE."""
        return self.invite.get("from")

    @property
    def from_user(self) -> str:
        """The number in the From of the INVITE."""
        return user_of(self.from_header)

    @property
    def to_user(self) -> str:
        """The number that was dialled, from the request line."""
        return user_of(self.invite.uri)

    # What both sides can do

    async def until(self, what: str, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until *condition* holds."""
        await self.agent.until(f"{what} ({self!r})", condition, patience)

    async def ended(self) -> None:
        """Wait until the call is over, however it ended."""
        await self.until("the end of the call", lambda: self.over)

    async def bye(self) -> None:
        """Hang up a call that is up (a call that the other side ended meanwhile is fine too)."""
        if not self.over:
            self.ended_by_us = True
            self.over = True
            await self.agent.request(self, "BYE")

    async def hold(self) -> None:
        """Put the other side on hold (re-INVITE with ``sendonly``)."""
        await self._reinvite("sendonly")

    async def resume(self) -> None:
        """Take the other side back from hold."""
        await self._reinvite("sendrecv")

    async def dtmf(self, digits: str) -> None:
        """Press keys."""
        for digit in digits:
            answer = await self.agent.request(
                self,
                "INFO",
                [("Content-Type", "application/dtmf-relay")],
                f"Signal={digit}\r\nDuration=100\r\n",
            )
            if answer.status != 200:
                raise SipError(f"INFO was answered with {answer.status}")

    async def refer(self, number: str, replaces: Call | None = None) -> None:
        """Transfer the other side to *number*; see :meth:`transferred` for the outcome.

        With *replaces*, an attended transfer: the other side is to take that call's place.
        """
        uri = f"sip:{number}@{self.agent.pbx[0]}:{self.agent.pbx[1]}"
        if replaces is not None:
            # The tags as seen by the receiver of the INVITE with Replaces: its own is "to".
            value = f"{replaces.call_id};to-tag={tag_of(replaces.remote)};from-tag={tag_of(replaces.local)}"
            uri += "?Replaces=" + quote(value, safe="")
        headers = [
            ("Contact", self.agent.contact),
            ("Refer-To", f"<{uri}>"),
            ("Referred-By", f"<sip:{self.agent.user}@{self.agent.host}>"),
        ]
        answer = await self.agent.request(self, "REFER", headers)
        if answer.status >= 300:
            raise SipError(f"REFER was answered with {answer.status}")

    async def transferred(self) -> int:
        """Wait for the outcome of our REFER and return its status; after success, hang up as phones do.

        Asterisk tells of success only when the target has answered; the channel in Asterisk is gone by then,
        but the dialog is left to the phone to end.
        """
        await self.until("the outcome of the transfer", lambda: any(s >= 200 for s in self.notified) or self.over)
        status = next((s for s in self.notified if s >= 200), 0)
        if status < 300:
            await self.bye()
        return status

    # What the caller can do

    async def progress(self, status: int = 180) -> None:
        """Wait for a provisional status (or for a later one, if it was left out)."""
        await self.until(f"status {status}", lambda: status in self.statuses or self.status >= 200 or self.over)
        if status not in self.statuses and self.status >= 300:
            raise SipError(f"refused with {self.status} instead of {status}")

    async def answered(self) -> None:
        """Wait until the other side answers; raises if it refuses."""
        if await self.final() >= 300:
            raise SipError(f"refused with {self.status}")

    async def final(self) -> int:
        """Wait for the final status and return it."""
        await self.until("the final status", lambda: self.status >= 200)
        return self.status

    async def cancel(self) -> None:
        """Give up before the answer, and wait until that is confirmed."""
        self.cancelled = True
        await self.until("any status", lambda: self.status >= 100)
        if self.status < 200:
            await self.agent.cancel(self)
        await self.until("the end of the cancelled call", lambda: self.status >= 200)

    # What the called side can do

    def ring(self, status: int = 180) -> None:
        """Ring (180), or 183."""
        self._respond(status)

    def answer(self) -> None:
        """Take the call."""
        self._respond(200, [("Contact", self.agent.contact)], self.agent.sdp(self))
        self.agent.talk(self)

    def decline(self, status: int) -> None:
        """Refuse the call with a status."""
        self.over = True
        self._respond(status)

    def redirect(self, number: str) -> None:
        """Send the caller elsewhere (302)."""
        self.over = True
        self._respond(302, [("Contact", f"<sip:{number}@{self.agent.pbx[0]}:{self.agent.pbx[1]}>")])

    def _respond(self, status: int, headers: Iterable[tuple[str, str]] = (), body: str = "") -> None:
        if self.over and self.cancelled:
            return  # the caller was quicker
        self.status = status
        self.statuses.append(status)
        self.agent.respond(self.invite, status, headers, body, call=self)

    async def _reinvite(self, direction: str) -> None:
        self.sdp_version += 1
        answer = await self.agent.request(
            self, "INVITE", [("Contact", self.agent.contact)], self.agent.sdp(self, direction)
        )
        if answer.status != 200:
            raise SipError(f"re-INVITE was answered with {answer.status}")

    def __repr__(self) -> str:
        way = f"from {self.from_user}" if self.incoming else f"to {self.to_user}"
        state = "over" if self.over else "up" if self.up else "not up"
        return f"<{self.agent.user}: call {way}, {state}, {self.statuses}>"


class UserAgent(asyncio.DatagramProtocol):
    """One SIP device; get it with :meth:`open`."""

    def __init__(self, host: str, user: str, pbx: Address) -> None:
        self.host = host
        self.user = user
        self.pbx = pbx
        self.port = 0
        self.calls: list[Call] = []
        """All calls since the last :meth:`forget`, oldest first."""
        self.voice = True
        """Whether calls that are up send silence; without, many calls at the same time cost next to nothing."""
        self._waiting: asyncio.Queue[Call] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport | None = None
        self._responses: dict[str, bytes] = {}
        self._clients: dict[str, Call | asyncio.Future[Message]] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sequences = itertools.count(1)

    @classmethod
    async def open(cls, host: str, port: int, user: str, pbx: Address) -> Self:
        """Bind to *host*:*port*; *pbx* is where everything is sent."""
        loop = asyncio.get_running_loop()
        _, agent = await loop.create_datagram_endpoint(lambda: cls(host, user, pbx), local_addr=(host, port))
        return agent

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.close()

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.host}:{self.port}>"

    async def until(self, what: str, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until *condition* holds, looking again after every message."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.user} waited {patience:.0f} s for {what}") from None

    # Calls

    def call(
        self,
        number: str,
        *,
        from_header: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Call:
        """Place a call; goes on at once, see :meth:`Call.final`, :meth:`Call.answered`, :meth:`Call.cancel`."""
        uri = f"sip:{number}@{self.pbx[0]}:{self.pbx[1]}"
        local = (from_header or f"<sip:{self.user}@{self.host}>") + f";tag={secrets.token_hex(4)}"
        remote = f"<{uri}>"
        invite = Message(
            f"INVITE {uri} SIP/2.0",
            [
                ("Via", self._via()),
                ("Max-Forwards", "70"),
                ("From", local),
                ("To", remote),
                ("Call-ID", f"{secrets.token_hex(8)}@{self.host}"),
                ("CSeq", "1 INVITE"),
                ("Contact", self.contact),
                ("Allow", "INVITE, ACK, CANCEL, BYE, INFO, NOTIFY, REFER, UPDATE, OPTIONS"),
                ("Supported", "replaces"),
                *headers,
                ("Content-Type", "application/sdp"),
            ],
        )
        call = Call(self, invite, incoming=False, local=local, remote=remote, target=uri, sequence=1)
        invite.body = self.sdp(call)
        self.calls.append(call)
        self._clients[invite.branch] = call
        self._background(self._repeat(invite, lambda: call.status > 0))
        return call

    async def incoming(self) -> Call:
        """Wait for a call to this device (that nobody has fetched yet)."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._waiting.get()
        except TimeoutError:
            raise TimeoutError(f"{self.user} waited {PATIENCE:.0f} s for a call") from None

    async def ringing(self) -> Call:
        """Wait for a call to this device and let it ring."""
        call = await self.incoming()
        call.ring()
        return call

    def forget(self) -> None:
        """Forget calls of the past."""
        self.calls = [call for call in self.calls if not call.over]
        while not self._waiting.empty():
            self._waiting.get_nowait()

    async def cancel(self, call: Call) -> None:
        """Send the CANCEL of a call (it has the INVITE's branch and number)."""
        keep = {"via", "max-forwards", "from", "to", "call-id"}
        headers = [(name, value) for name, value in call.invite.headers if name.lower() in keep]
        request = Message(f"CANCEL {call.invite.uri} SIP/2.0", [*headers, ("CSeq", f"{call.invite.sequence} CANCEL")])
        await self._transact(request, request.branch + "/CANCEL")

    async def request(
        self, call: Call, method: str, headers: Iterable[tuple[str, str]] = (), body: str = ""
    ) -> Message:
        """Send a request of a dialog and return the final response."""
        call.sequence += 1
        if method == "INVITE":
            headers = [*headers, ("Content-Type", "application/sdp")]
        request = self._in_dialog(call, method, call.sequence, headers, body)
        response = await self._transact(request, request.branch)
        if method == "INVITE":
            self._send(self._in_dialog(call, "ACK", call.sequence, [], ""))
        return response

    def respond(
        self,
        request: Message,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        body: str = "",
        *,
        call: Call | None = None,
    ) -> None:
        """Answer a request; the answer is kept for when the request is repeated."""
        to = request.get("to")
        if call is not None and not tag_of(to) and status > 100:
            to = call.local
        response = Message(
            f"SIP/2.0 {status} {REASONS.get(status, 'Whatever')}",
            [
                *(("Via", via) for via in request.all("via")),
                ("From", request.get("from")),
                ("To", to),
                ("Call-ID", request.get("call-id")),
                ("CSeq", request.get("cseq")),
                *headers,
                *([("Content-Type", "application/sdp")] if body else []),
            ],
            body,
        )
        self._responses[f"{request.branch}/{request.method}"] = response.render()
        self._send(response)
        self._changed.set()

    def sdp(self, call: Call, direction: str = "sendrecv") -> str:
        """Describe a media stream that nobody will listen to."""
        return (
            f"v=0\r\no=- 1 {call.sdp_version} IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na={direction}\r\n"
        )

    def talk(self, call: Call) -> None:
        """The call is up from now on, and full of silence where there is voice."""
        call.up = True
        if self.voice:
            self._background(self._send_silence(call))

    async def _send_silence(self, call: Call) -> None:
        source = secrets.token_bytes(4)
        for number in itertools.count():
            if call.over:
                return
            if call.media is not None and self._transport is not None and not self._transport.is_closing():
                header = struct.pack("!BBHI", 0x80, 8, number & 0xFFFF, number * len(SILENCE) & 0xFFFFFFFF)
                self._transport.sendto(header + source + SILENCE, call.media)
            await asyncio.sleep(FRAME)

    # Below: the protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # its real type only says so since 3.12
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if addr != self.pbx or data[:1] < b"A":
            return  # sound (our SDP names this port), or a keep-alive
        message = Message.parse(data)
        if message.status:
            self._response(message)
        else:
            self._request(message)
        self._changed.set()

    def error_received(self, exc: Exception) -> None:
        """Asterisk is gone for the moment; whoever waits for an answer will notice."""

    def _send(self, message: Message) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message.render(), self.pbx)

    def _via(self) -> str:
        return f"SIP/2.0/UDP {self.host}:{self.port};branch=z9hG4bK{secrets.token_hex(8)};rport"

    def _in_dialog(
        self, call: Call, method: str, sequence: int, headers: Iterable[tuple[str, str]], body: str
    ) -> Message:
        return Message(
            f"{method} {call.target} SIP/2.0",
            [
                ("Via", self._via()),
                ("Max-Forwards", "70"),
                ("From", call.local),
                ("To", call.remote),
                ("Call-ID", call.call_id),
                ("CSeq", f"{sequence} {method}"),
                *headers,
            ],
            body,
        )

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, request: Message, done: Callable[[], bool]) -> None:
        """Send a request again and again until something comes back."""
        pause = REPEAT
        while not done() and pause < PATIENCE:
            self._send(request)
            with contextlib.suppress(TimeoutError):
                await self.until("a response", done, pause)
            pause *= 2

    async def _transact(self, request: Message, key: str) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._clients[key] = answer
        try:
            await self._repeat(request, answer.done)
            return await asyncio.wait_for(answer, PATIENCE)
        except TimeoutError:
            raise TimeoutError(f"{self.user}: no answer to {request.first}") from None
        finally:
            self._clients.pop(key, None)

    def _response(self, message: Message) -> None:
        key = message.branch + ("/CANCEL" if message.method == "CANCEL" else "")
        client = self._clients.get(key)
        if isinstance(client, Call):
            self._invite_response(client, message)
        elif client is not None and message.status >= 200 and not client.done():
            client.set_result(message)

    def _invite_response(self, call: Call, message: Message) -> None:
        """Take a response to the INVITE of a call that this device placed."""
        if message.status > 100 and tag_of(message.get("to")):
            call.remote = message.get("to")
        if message.get("contact"):
            call.target = uri_of(message.get("contact"))
        if call.status < 200:
            call.status = message.status
            call.statuses.append(message.status)
            call.response = message
        if message.status < 200:
            return
        if message.status < 300:
            if not call.up:
                call.media = media_of(message.body)
                self.talk(call)
            self._send(self._in_dialog(call, "ACK", call.invite.sequence, [], ""))
        else:
            call.over = True
            # The ACK of a refusal belongs to the INVITE's transaction: same branch, same request line.
            ack = self._in_dialog(call, "ACK", call.invite.sequence, [], "")
            ack.first = f"ACK {call.invite.uri} SIP/2.0"
            ack.headers[0] = ("Via", call.invite.get("via"))
            self._send(ack)

    def _request(self, message: Message) -> None:
        if message.method == "ACK":
            return
        known = self._responses.get(f"{message.branch}/{message.method}")
        if known is not None:  # Asterisk repeats itself: so do we
            if self._transport is not None:
                self._transport.sendto(known, self.pbx)
            return
        call = self._call_of(message)
        if message.method == "CANCEL":
            self._cancelled(message)
        elif call is not None:
            self._request_in_call(message, call)
        elif message.method == "INVITE":
            self._invited(message)
        else:  # OPTIONS ("are you there?") and NOTIFY (messages waiting) come without a call
            self.respond(message, 200 if message.method in {"OPTIONS", "NOTIFY"} else 481)

    def _request_in_call(self, message: Message, call: Call) -> None:
        if message.method in {"INVITE", "UPDATE"}:
            if message.get("contact"):
                call.target = uri_of(message.get("contact"))
            call.media = media_of(message.body) or call.media
            body = self.sdp(call) if message.body or message.method == "INVITE" else ""
            self.respond(message, 200, [("Contact", self.contact)], body)
            return
        self.respond(message, 200)
        if message.method == "BYE":
            call.over = True
        elif message.method == "NOTIFY" and "refer" in message.get("event"):
            found = re.match(r"SIP/2.0 (\d+)", message.body)
            if found:
                call.notified.append(int(found.group(1)))

    def _call_of(self, message: Message) -> Call | None:
        tag = tag_of(message.get("to"))
        call_id = message.get("call-id")
        return next((c for c in self.calls if c.call_id == call_id and tag and tag_of(c.local) == tag), None)

    def _invited(self, message: Message) -> None:
        call = Call(
            self,
            message,
            incoming=True,
            local=f"{message.get('to')};tag={secrets.token_hex(4)}",
            remote=message.get("from"),
            target=uri_of(message.get("contact")),
            media=media_of(message.body),
            sequence=next(self._sequences) * 100,
        )
        self.calls.append(call)
        self._waiting.put_nowait(call)
        self.respond(message, 100)

    def _cancelled(self, message: Message) -> None:
        call = next((c for c in self.calls if c.incoming and c.invite.branch == message.branch), None)
        if call is None:
            self.respond(message, 481)
            return
        self.respond(message, 200, call=call)
        if not call.up and not call.over:
            call.decline(487)
            call.cancelled = True
