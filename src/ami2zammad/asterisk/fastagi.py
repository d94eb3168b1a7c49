"""FastAGI: the dialplan asks before it goes on (`AGI(agi://host:port/screen?queue=support)`).

While it asks, a caller waits: whatever goes wrong in here ends the connection, upon which Asterisk goes on with the
dialplan at once. It sets no time-out of its own, so nothing in here waits without one. The protocol is that of
res/res_agi.c in Asterisk 16 to 22.
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import parse_qsl

from ami2zammad.asterisk.errors import AsteriskError, quoted
from ami2zammad.asterisk.events import ID_LIMIT, TEXT_LIMIT
from ami2zammad.asterisk.waiting import Clock, Sleep, done_within

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

T = TypeVar("T")

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of a request's head. Asterisk's own has less than one KiB, plus what the dialplan passes on."""
HEAD_LINES: Final = 100
"""Lines of a request's head. Asterisk sends some 25, plus what the dialplan passes on."""
LINE_LIMIT: Final = 8 * 1024
"""Bytes of one line."""
COMMAND_LIMIT: Final = 2047
"""Bytes of a command with its line end: Asterisk takes what is longer for two (AGI_BUF_LEN)."""
_BACKLOG: Final = 1024
"""Connections that the kernel keeps for us. One that finds no room there is tried again only after a second or more,
and with it a caller waits."""
_ANSWER_LINES: Final = 200
"""Lines of one answer; the longest usage that Asterisk explains has some 20."""
_QUERY_FIELDS: Final = 50
_NOTE_INTERVAL: Final = 60.0
"""Seconds between two lines of the log about refused requests."""

_KEY: Final = re.compile(rb"agi_[a-z0-9_]{1,60}")
_ANSWER: Final = re.compile(r"([1-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_RESULT: Final = re.compile(r"result=(-?[0-9]{1,9})(?![0-9])")
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_VARIABLE: Final = re.compile(r"[A-Za-z0-9_]+(?:\([^()\s\"\\]*\))?")
"""A variable (`NAME`), or a function (`CALLERID(num)`)."""
_APPLICATION: Final = re.compile(r"[A-Za-z0-9_]+")
_NO_APPLICATION: Final = -2
"""What EXEC results in where there is no such application."""


class AgiError(AsteriskError):
    """A command of FastAGI did not do what it should."""

    code = "agi"


class AgiHangup(AgiError):  # noqa: N818 -- what happened, as the names in `errors`
    """The caller hung up, or Asterisk closed the connection."""

    code = "agi_hangup"

    def __init__(self) -> None:
        super().__init__("The call ended while the dialplan asked", "Nothing to do.")


class AgiTimeout(AgiError):  # noqa: N818 -- see above
    """Asterisk did not answer a command in time."""

    code = "agi_timeout"

    def __init__(self, command: str, seconds: float) -> None:
        super().__init__(f"Asterisk did not answer {command} within {seconds:g} s", "Look at Asterisk's load.")


class AgiRefused(AgiError):  # noqa: N818 -- see above
    """Asterisk did not take a command, or its answer makes no sense."""

    code = "agi_refused"

    def __init__(self, command: str, answer: str) -> None:
        super().__init__(
            f"Asterisk answered {command} with {quoted(answer)}",
            "Does this Asterisk have the function or application that the command names?",
        )


class AgiInjection(AgiError):  # noqa: N818 -- see above
    """A command could have become another one, or two."""

    code = "agi_injection"

    def __init__(self, command: str, what: str) -> None:
        super().__init__(f"{command} was not sent: {what}", "Correct the setting or the reply from which it comes.")


class AgiRequest:
    """One question of the dialplan, and the way to answer it; for the length of the handler.

    Texts are as Asterisk gives them, without control characters, empty for what is unknown. `script` is the path of
    the URL without slashes around it, `query` what follows it, decoded; of a name that comes twice the first counts.
    A command that is not answered in time leaves the connection in an unknown state: all later ones fail.
    """

    def __init__(
        self,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        command_timeout: float,
        sleep: Sleep,
    ) -> None:
        """Read the head's lines. Raises ValueError where its URL makes no sense."""
        self._reader = reader
        self._writer = writer
        self._command_timeout = command_timeout
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._over = False
        self.channel = headers["agi_channel"]
        self.uniqueid = headers["agi_uniqueid"]
        self.caller_number = _known(headers.get("agi_callerid", ""))
        self.dnid = _known(headers.get("agi_dnid", ""))
        self.extension = headers.get("agi_extension", "")
        self.context = headers.get("agi_context", "")
        path, _, query = headers.get("agi_network_script", "").partition("?")
        self.script = path.strip("/")
        self.query: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS):
            self.query.setdefault(_printable(name), _printable(value))

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable, or a function such as `CALLERID(num)`.

        Raises AgiInjection before anything is written, AgiHangup, AgiTimeout, AgiRefused.
        """
        command = "SET VARIABLE"
        if not _VARIABLE.fullmatch(name):
            raise AgiInjection(command, "the name is none of a variable")
        await self._command(command, f"{command} {name} {_quote(command, value)}", self._command_timeout)

    async def execute(self, application: str, arguments: str = "", *, seconds: float | None = None) -> int:
        """Run a dialplan application; give what it results in (-1: the call is to end, as `Hangup` wants it).

        Asterisk answers when the application has ended; `seconds` is how long that may take (else as long as any
        other command). The arguments are one text, in the application's own syntax. Raises as `set_variable`.
        """
        command = "EXEC"
        if not _APPLICATION.fullmatch(application):
            raise AgiInjection(command, "the name is none of an application")
        line = f"{command} {application} {_quote(command, arguments)}"
        result = await self._command(command, line, self._command_timeout if seconds is None else seconds)
        if result == _NO_APPLICATION:
            raise AgiRefused(command, f"no application {application}")
        return result

    async def _command(self, command: str, line: str, seconds: float) -> int:
        wire = line.encode() + b"\n"
        if len(wire) > COMMAND_LIMIT:
            raise AgiInjection(command, f"it is longer than {COMMAND_LIMIT} bytes")
        async with self._turn:
            if self._over or self._writer.is_closing():
                raise AgiHangup
            # Until the answer is in, nobody knows what comes next on this connection.
            self._over = True
            self._writer.write(wire)
            answering = _watched(self._answer(command))
            try:
                if not await done_within(answering, seconds, self._sleep):
                    raise AgiTimeout(command, seconds)
                code, text = answering.result()
            except (OSError, asyncio.IncompleteReadError):
                raise AgiHangup from None
            except asyncio.LimitOverrunError:
                raise AgiRefused(command, f"a line of more than {LINE_LIMIT} bytes") from None
            finally:
                answering.cancel()
            self._over = False
        result = _RESULT.match(text)
        if code == 200 and result:  # noqa: PLR2004 -- AGI's own numbers, like those of HTTP
            return int(result[1])
        if code == 511:  # noqa: PLR2004 -- "Command Not Permitted on a dead channel"
            raise AgiHangup
        raise AgiRefused(command, f"{code} {text}")

    async def _answer(self, command: str) -> tuple[int, str]:
        """Read to the end of the answer; give its code and the text of its first line."""
        usage = ""
        for _ in range(_ANSWER_LINES):
            line = (await self._reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip("\r\n")
            if line == "HANGUP" and not usage:
                raise AgiHangup
            answer = _ANSWER.fullmatch(line)
            if usage:
                # "520-Invalid command syntax. …", its usage, "520 End of proper usage."
                if answer and answer[1] == "520" and answer[2] != "-":
                    return 520, usage
            elif answer is None:
                raise AgiRefused(command, line)
            elif answer[2] == "-":
                usage = answer[3] or "-"
            elif answer[1] != "100":
                return int(answer[1]), answer[3] or ""
        raise AgiRefused(command, f"more than {_ANSWER_LINES} lines")


AgiHandler = Callable[[AgiRequest], Awaitable[None]]
"""Answers one question. The caller waits for it, and so does Asterisk even if he hangs up meanwhile (measured on 16
and 22: the channel stays until the connection ends): the handler has to limit its time itself."""


class _Refusal(Exception):  # noqa: N818 -- a finding about the peer
    """What came is no request of Asterisk's, for this reason."""


class FastAgiServer:
    """Listens for the dialplan's questions; `async with` (or `start` and `close`) begins and ends it.

    `limit` connections at once; from then on each new one is closed at once. `request_timeout` is for the request's
    head, `command_timeout` for each command's answer; both in seconds. `handled` requests came to the handler,
    `refused` counts, by reason, what was none, `faults` how often the handler failed, `hangups` how often the caller
    did not wait, `turned_away` connections came above the limit.
    """

    def __init__(
        self,
        handler: AgiHandler,
        *,
        host: str,
        port: int,
        log: FilteringBoundLogger,
        limit: int = 100,
        request_timeout: float = 2.0,
        command_timeout: float = 5.0,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._log = log
        self._limit = limit
        self._request_timeout = request_timeout
        self._command_timeout = command_timeout
        self._clock = clock
        self._sleep = sleep
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._closing = False
        self._full = False
        self._noted_at: float | None = None
        self._not_noted = 0
        self.handled = 0
        self.refused: Counter[str] = Counter()
        self.faults = 0
        self.hangups = 0
        self.turned_away = 0

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, self._host, self._port, limit=LINE_LIMIT, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Listen no more, and end all connections at once; Asterisk goes on with the dialplan."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        connections = dict(self._connections)
        for task, writer in connections.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port on which it listens. Raises RuntimeError before `start`."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the FastAGI server does not listen")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing:
            writer.transport.abort()
            return
        if len(self._connections) >= self._limit:
            writer.transport.abort()
            self.turned_away += 1
            if not self._full:
                self._full = True
                self._log.warning("agi.full", limit=self._limit)
            return
        task = asyncio.create_task(self._serve(reader, writer), name="agi")
        self._connections[task] = writer
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        writer = self._connections.pop(task)
        # A peer that takes nothing would keep a connection with bytes still to be written for ever.
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()
        else:
            writer.close()
        # Not as soon as there is one place again: at the limit that would be every other moment.
        if self._full and len(self._connections) <= self._limit // 2:
            self._full = False
            self._log.info("agi.relieved", connections=len(self._connections), turned_away=self.turned_away)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._request(reader, writer)
        except _Refusal as refusal:
            self._note_refused(str(refusal))
            return
        self.handled += 1
        try:
            await self._handler(request)
        except AgiHangup:
            self.hangups += 1
        except Exception as error:  # noqa: BLE001 -- a fault in one answer must not end all others
            self._note_fault(request, error)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AgiRequest:
        headers: dict[str, str] = {}
        reading = _watched(_read_head(reader, headers))
        try:
            if not await done_within(reading, self._request_timeout, self._sleep):
                raise _Refusal("half a request" if headers else "silent")
            reading.result()
        finally:
            reading.cancel()
        if not headers.get("agi_channel") or not 0 < len(headers.get("agi_uniqueid", "")) <= ID_LIMIT:
            raise _Refusal("garbled")
        try:
            return AgiRequest(headers, reader, writer, command_timeout=self._command_timeout, sleep=self._sleep)
        except ValueError:
            raise _Refusal("garbled") from None

    def _note_refused(self, reason: str) -> None:
        self.refused[reason] += 1
        now = self._clock()
        if self._noted_at is not None and now - self._noted_at < _NOTE_INTERVAL:
            self._not_noted += 1
            return
        self._log.warning("agi.refused", reason=reason, unlogged=self._not_noted)
        self._noted_at, self._not_noted = now, 0

    def _note_fault(self, request: AgiRequest, error: Exception) -> None:
        self.faults += 1
        # Where it happened, but neither text nor values: what they hold is not known, and could be a secret.
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
        self._log.error("agi.fault", uniqueid=request.uniqueid, error=type(error).__name__, where=where)


def _watched(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run this, to be waited for with a limit; an error that comes after it is dropped."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _read_head(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    """Read the lines up to the empty one into `headers`. Raises _Refusal."""
    size = 0
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise _Refusal("half a request" if headers or error.partial else "closed without a request") from None
        except asyncio.LimitOverrunError:
            raise _Refusal("too large") from None
        except OSError:
            raise _Refusal("half a request" if headers else "closed without a request") from None
        size += len(line)
        line = line.rstrip(b"\r\n")
        if not line:
            return
        if size > HEAD_LIMIT or len(headers) >= HEAD_LINES:
            raise _Refusal("too large")
        key, separator, value = line.partition(b":")
        name = key.decode("ascii", "replace")
        # Asterisk says nothing twice: one of the two would come out of a caller's name with a line end in it.
        if not separator or not _KEY.fullmatch(key) or name in headers:
            raise _Refusal("garbled")
        headers[name] = _printable(value.strip()[:TEXT_LIMIT].decode("utf-8", "replace"))


def _printable(text: str) -> str:
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def _known(number: str) -> str:
    return "" if number in {"unknown", "<unknown>"} else number


def _quote(command: str, text: str) -> str:
    """Give one word of an AGI command. Raises AgiInjection for control characters and half characters."""
    if _UNSAFE.search(text):
        raise AgiInjection(command, "a value holds a control character or half a character")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
