"""One AMI session, from the connection to its end. When to open the next one is `reconnect`'s business."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from panoramisk.manager import Manager

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.errors import (
    ActionRefused,
    ActionTimeout,
    AsteriskError,
    CaFileUnusable,
    CertificateNotTrusted,
    ClosedBeforeGreeting,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    HostUnknown,
    HostUnreachable,
    LoginRefused,
    Md5NotOffered,
    NotAmi,
    PeerSilent,
    PeerSpeaksPlainly,
    PeerSpeaksTls,
    SessionClosed,
    quoted,
)
from ami2zammad.asterisk.protocol import AmiProtocol, Sink, Stranger, Tap
from ami2zammad.asterisk.waiting import Clock, Sleep, done_within
from ami2zammad.calls.signalling import ApplicationSeen, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ami2zammad.asterisk.actions import ListingRequest, Message, OriginateRequest, Request

_FAREWELL: Final = 2.0
"""Seconds that a good-bye may take."""
_REASON: Final = re.compile("[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class AmiEndpoint:
    """Where and how to reach Asterisk's manager interface; its names are those of the settings `asterisk.*`.

    Times in seconds. `connect_timeout` limits each step: connection with TLS, greeting, login. `ca_file`: PEM
    certificates to trust in place of the system's. `auth` "md5" does not send the secret, but can be
    attacked off-line by who listens: TLS is better.
    """

    host: str
    port: int = 5038
    username: str = ""
    secret: str = field(default="", repr=False)
    tls: bool = False
    ca_file: Path | None = None
    auth: Literal["plain", "md5"] = "plain"
    ping_interval: float = 10.0
    ping_timeout: float = 10.0
    connect_timeout: float = 10.0
    action_timeout: float = 10.0

    def tls_context(self) -> ssl.SSLContext | None:
        """Give what TLS needs, None without TLS. Raises CaFileUnusable."""
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # an SSLError is one too
            raise CaFileUnusable(str(self.ca_file), error.strerror or type(error).__name__) from error


class _Wire(Manager):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's Manager as a mere connector.

    It gets no account and keeps no state; its own login, ping, reconnect and replay of actions are put out.
    """

    def __init__(self, endpoint: AmiEndpoint, protocol_factory: Callable[[], AmiProtocol]) -> None:
        super().__init__(
            loop=asyncio.get_running_loop(),
            host=endpoint.host,
            port=endpoint.port,
            ssl=endpoint.tls_context(),
            protocol_factory=protocol_factory,
        )

    def connection_made(self, f: asyncio.Future[Any]) -> None:
        """Do nothing with the connection, which who waits for it gets; an error that came too late is dropped."""
        if not f.cancelled():
            f.exception()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Do nothing: no reconnect."""

    def dispatch(self, event: Message) -> None:
        """Do nothing: events do not come this way."""


@dataclass(frozen=True, slots=True)
class OriginateOutcome:
    """What became of an Originate (its OriginateResponse).

    `reason` is Asterisk's number, of which 16 and 22 say 4: answered, 3: nobody answered in time, 0: anything else
    (busy, refused, no such endpoint, ChannelId in use, hung up while it rang). Why, the channel's Hangup tells, if
    there was a channel. `channel` is its name if it answered, else what was to be dialled.
    """

    answered: bool
    reason: int
    channel: str
    uniqueid: str


class Origination:
    """An Originate that Asterisk has taken on. Its `outcome` may be waited for once, by one task."""

    def __init__(self, response: asyncio.Future[Any], seconds: float, sleep: Sleep) -> None:
        self._response = response
        self._seconds = seconds
        self._sleep = sleep
        # Nobody has to wait for it.
        response.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def outcome(self) -> OriginateOutcome:
        """Wait until the far side has answered or it is known that it will not.

        Raises ActionTimeout some seconds (the session's `action_timeout`) after the far side's time is over,
        ConnectionLost (or what else ended the session). Who does not wait on leaves the dialling as it is.
        """
        try:
            if not await done_within(self._response, self._seconds, self._sleep):
                raise ActionTimeout("Originate", self._seconds)
            message = self._response.result()
        finally:
            self._response.cancel()
        reason = str(message.reason)
        return OriginateOutcome(
            message.response == "Success",
            int(reason) if _REASON.fullmatch(reason) else 0,
            str(message.channel),
            str(message.uniqueid),
        )


class AmiSession:
    """A logged-in AMI session; made by `open`. It ends once: `closed` says why.

    The sink gets the signals in the order of the stream, those that answer an action (`snapshot`,
    `application_of`) too.
    """

    def __init__(
        self,
        endpoint: AmiEndpoint,
        sink: Sink,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        tap: Tap | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._sleep = sleep
        self._reason: asyncio.Future[AsteriskError] = asyncio.get_running_loop().create_future()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pauses = 0
        self._watch: asyncio.Task[None] | None = None
        # The endpoint's certificates are read before anything of asyncio's hangs on this session.
        self._wire = _Wire(endpoint, lambda: self._protocol)
        self._protocol = AmiProtocol(self._wire, sink, clock, self._ended, tap)

    @classmethod
    async def open(
        cls,
        endpoint: AmiEndpoint,
        sink: Sink,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        tap: Tap | None = None,
    ) -> Self:
        """Connect, make sure that it is AMI, log in, and keep watch from then on.

        It does not wait for FullyBooted: an account without the class `system` never sees it. `clock` gives the
        signals' `at`, in seconds. Raises an AsteriskError that says what to do.
        """
        session = cls(endpoint, sink, clock=clock, sleep=sleep, tap=tap)
        try:
            await session._connect()
            await session._greet()
            await session._login()
        except BaseException:
            session._abort(SessionClosed())
            raise
        session._watch = asyncio.create_task(session._keep_watch(), name="ami-liveness")
        if session._reason.done():
            session._watch.cancel()
        return session

    @property
    def version(self) -> str:
        """AMI's version as its greeting says it, `11.0.0` say (not Asterisk's own)."""
        return str(self._protocol.version)

    @property
    def messages(self) -> int:
        """How many messages came in so far."""
        return self._protocol.messages

    @property
    def garbled(self) -> int:
        """How many messages made no sense so far."""
        return self._protocol.garbled

    async def send(self, action: Request, timeout: float | None = None) -> Message | list[Message]:  # noqa: ASYNC109 -- on the injected sleep
        """Send an action, give its answer: one Message, or a list of them (Status); a refusal is an answer too.

        Raises ActionTimeout after `timeout` seconds (else `action_timeout`), ConnectionLost (or what else ended the
        session), HeaderInjection, TooManyActions, GarbledAnswer. An action is never sent twice. Not for the task that
        empties the intake: while that is full no answer is read.
        """
        return await self._answer_to(action, self.endpoint.action_timeout if timeout is None else timeout)

    async def originate(self, action: OriginateRequest) -> Origination:
        """Send an Originate, wait for the first of its two answers; what is given knows the second.

        Raises ActionRefused, and what `send` raises: after an ActionTimeout nobody knows whether it rings somewhere.
        """
        outcome = self._protocol.send(action)
        try:
            await self._queued(action)
        except BaseException:
            outcome.cancel()
            raise
        return Origination(outcome, action.timeout + self.endpoint.action_timeout, self._sleep)

    async def snapshot(self) -> Snapshot:
        """List all channels.

        The sink gets the same Snapshot at its right place among the signals: who also passes on what is returned here
        makes it count twice, the second time too late. Raises ActionRefused and what `send` raises.
        """
        signal = await self._listing(actions.status())
        if not isinstance(signal, Snapshot):
            raise ActionRefused("Status", "the list has no end")
        return signal

    async def application_of(self, channel: str) -> str:
        """Give the dialplan application that the channel of this name runs; empty if it runs none or is gone.

        The sink gets it as ApplicationSeen. Raises what `send` raises.
        """
        try:
            signal = await self._listing(actions.status_of(channel))
        except ActionRefused:  # "No such channel"
            return ""
        return signal.application if isinstance(signal, ApplicationSeen) else ""

    async def commands(self) -> set[str]:
        """Name the actions that the account may run. Raises what `send` raises."""
        answer = await self.send(actions.list_commands())
        return set(answer) - {"Response", "ActionID", "Message", "content"}

    def pause_reading(self) -> None:
        """Take nothing from the socket until `resume_reading`: Asterisk then keeps the events."""
        if self._flowing.is_set() and not self._reason.done():
            self._flowing.clear()
            self._pauses += 1
            self._protocol.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._flowing.is_set():
            self._flowing.set()
            if not self._reason.done():
                self._protocol.transport.resume_reading()

    async def closed(self) -> AsteriskError:
        """Wait for the end of the session; give its reason (SessionClosed after `close`)."""
        return await asyncio.shield(self._reason)

    async def close(self) -> None:
        """Log off and close; within two seconds each, whatever the other side does."""
        if not self._reason.done() and self._flowing.is_set():
            try:
                await self._answer_to(actions.logoff(), _FAREWELL)
            except AsteriskError:
                pass  # it ends in any case
            except asyncio.CancelledError:
                self._abort(SessionClosed())
                raise
        self._protocol.end(SessionClosed())
        if not await done_within(self._protocol.lost, _FAREWELL, self._sleep):
            self._protocol.transport.abort()

    async def _answer_to(self, action: Request, seconds: float) -> Message | list[Message]:
        answer = self._protocol.send(action)
        try:
            if not await done_within(answer, seconds, self._sleep):
                raise ActionTimeout(action.name, seconds)
            return answer.result()
        finally:
            answer.cancel()

    async def _queued(self, action: OriginateRequest) -> None:
        seconds = self.endpoint.action_timeout
        if not await done_within(action.queued, seconds, self._sleep):
            raise ActionTimeout(action.name, seconds)
        answer = action.queued.result()
        if not answer.success:
            raise ActionRefused(action.name, str(answer.message))

    async def _listing(self, action: ListingRequest) -> Any:  # noqa: ANN401 -- the caller checks which signal it is
        answer = await self.send(action)
        if not isinstance(answer, list):
            raise ActionRefused(action.name, str(answer.message))
        return action.reader.signal

    async def _connect(self) -> None:
        endpoint = self.endpoint
        host, port = endpoint.host, endpoint.port
        task: asyncio.Task[Any] = self._wire.connect()
        try:
            if not await done_within(task, endpoint.connect_timeout, self._sleep):
                raise ConnectTimeout(host, port, endpoint.connect_timeout)
            task.result()
        except ssl.SSLCertVerificationError as error:
            raise CertificateNotTrusted(host, port, error.verify_message) from error
        except ssl.SSLError as error:
            raise PeerSpeaksPlainly(host, port, error.reason or type(error).__name__) from error
        except socket.gaierror as error:
            raise HostUnknown(host) from error
        except (ConnectionResetError, ConnectionAbortedError) as error:
            raise ClosedBeforeGreeting(host, port) from error
        except OSError as error:
            # For a name with several addresses asyncio puts the errors into one text.
            if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
                raise ConnectionRefused(host, port) from error
            raise HostUnreachable(host, port, error.strerror or str(error)) from error
        except UnicodeError as error:  # the IDNA codec on an impossible name
            raise HostUnknown(host) from error
        finally:
            task.cancel()

    async def _greet(self) -> None:
        endpoint, greeting = self.endpoint, self._protocol.greeting
        half = endpoint.connect_timeout / 2
        if not await done_within(greeting, half, self._sleep):
            self._protocol.nudge()
            await done_within(greeting, half, self._sleep)
        host, port = endpoint.host, endpoint.port
        if not greeting.done():
            head = self._protocol.head()
            said = f"it only says {quoted(head.decode('utf-8', 'replace'))}" if head else "it says nothing"
            raise NotAmi(host, port, said)
        error = greeting.exception()
        if isinstance(error, Stranger):
            raise (PeerSpeaksTls(host, port) if error.tls else NotAmi(host, port, error.what)) from None
        if isinstance(error, ConnectionLost):
            raise ClosedBeforeGreeting(host, port) from None
        if error is not None:
            raise error

    async def _login(self) -> None:
        endpoint = self.endpoint
        if endpoint.auth == "md5":
            answer = await self._ask(actions.challenge())
            if not (answer.success and isinstance(answer.challenge, str) and answer.challenge):
                raise Md5NotOffered(self._without_secret(answer))
            request = actions.login_md5(endpoint.username, endpoint.secret, answer.challenge)
        else:
            request = actions.login(endpoint.username, endpoint.secret)
        refusal = await self._refusal(request)
        if refusal is not None:
            raise LoginRefused(endpoint.username, refusal)

    async def _refusal(self, login: Request) -> str | None:
        """Give what was said if it is a refusal. The answer itself stays in here, out of the error's traceback."""
        answer = await self._ask(login)
        return None if answer.success else self._without_secret(answer)

    async def _ask(self, request: Request) -> Message:
        answer = await self._answer_to(request, self.endpoint.connect_timeout)
        return answer[0] if isinstance(answer, list) else answer

    def _without_secret(self, answer: Message) -> str:
        """Give an answer's message; a peer that says our secret back to us must not get it into a log."""
        message = str(answer.message)
        return "(not shown)" if self.endpoint.secret and self.endpoint.secret in message else message

    async def _keep_watch(self) -> None:
        """Ping. Only the answer counts: a peer that sends events but hears nothing is of no use."""
        endpoint = self.endpoint
        while True:
            await self._sleep(endpoint.ping_interval)
            await self._flowing.wait()
            answer = self._protocol.send(actions.ping())
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            pauses = self._pauses
            while not await done_within(answer, endpoint.ping_timeout, self._sleep):
                if pauses == self._pauses:
                    self._abort(PeerSilent(endpoint.ping_timeout))
                    return
                # We did not listen all the time: the answer may wait behind the events that we left lying.
                await self._flowing.wait()
                pauses = self._pauses

    def _abort(self, reason: AsteriskError) -> None:
        """End without waiting for what is still to be written: a dead peer would never take it."""
        self._protocol.end(reason)
        transport = getattr(self._protocol, "transport", None)
        if transport is not None:
            transport.abort()

    def _ended(self, reason: AsteriskError) -> None:
        if not self._reason.done():
            self._reason.set_result(reason)
        if self._watch is not None:
            self._watch.cancel()
