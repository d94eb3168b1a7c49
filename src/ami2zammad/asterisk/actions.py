"""The AMI actions that we send, typed and checked.

They are panoramisk Actions (a future that completes with the answer), but write themselves: every header is
checked, and neither `str` nor `repr` shows a value, as one of them is the secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from panoramisk.actions import Action

from ami2zammad.asterisk.errors import HeaderInjection
from ami2zammad.asterisk.events import application_seen, channel_listed, event_name, raw_header
from ami2zammad.calls.signalling import Snapshot

if TYPE_CHECKING:
    from ami2zammad.calls.signalling import ChannelListed, Signal

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters (CR, LF and NUL end a header), and half characters, which cannot be encoded."""

_SEPARATING: Final = re.compile(r"""[\\",()\[\]]""")
"""What has a meaning of its own in a list of variables (`__ast_app_separate_args` of main/app.c)."""

_SNAPSHOT: Final = "snapshot/"
_APPLICATION: Final = "application/"


Message = Any
"""One message of an answer: a `panoramisk.message.Message` (mapping without case, `.success`, `.response`)."""


class Request(Action):  # type: ignore[misc]  # panoramisk has no types
    """One action. `name` as AMI knows it; `kind` goes in front of the ActionID that panoramisk makes."""

    def __init__(self, name: str, headers: dict[str, str] | None = None, *, kind: str = "") -> None:
        super().__init__({"Action": name, **(headers or {})})
        if kind:
            self["ActionID"] = kind + self["ActionID"]
        self.name = name

    def to_wire(self) -> bytes:
        """Give the bytes to send.

        Raises HeaderInjection where a name or value could end its header; the error names the header only.
        """
        # Raised from here, so that no frame of the error's traceback holds a value, which may be the secret.
        unsafe = self._unsafe()
        if unsafe is not None:
            raise HeaderInjection(unsafe)
        return ("".join(f"{header}: {value}\r\n" for header, value in self.headers()) + "\r\n").encode()

    def headers(self) -> Iterable[tuple[str, str]]:
        """Give the headers in the order in which they are written."""
        return self.items()  # type: ignore[no-any-return]  # panoramisk has no types

    def _unsafe(self) -> str | None:
        for header, value in self.headers():
            if _UNSAFE.search(header) or ":" in header or _UNSAFE.search(value):
                return str(header)
        return None

    def __str__(self) -> str:
        return f"<Action {self.name}>"

    __repr__ = __str__

    def signal_of(self, message: bytes, at: float) -> Signal | None:  # noqa: ARG002 -- for those that have one
        """Give the signal, if any, that this message of the answer stands for."""
        return None


class ListingRequest(Request):
    """A `Status` action, whose answer tells about channels: its signals take their place among the events."""

    def __init__(self, headers: dict[str, str], kind: str) -> None:
        super().__init__("Status", headers, kind=kind)
        self.reader = StatusReader(self["ActionID"])

    def signal_of(self, message: bytes, at: float) -> Signal | None:
        """See Request."""
        return self.reader.read(message, at)


class OriginateRequest(Request):
    """An `Originate`, which is answered twice: at once, and when it is known what became of it.

    `queued` completes with the first answer; `future`, as that of any action, with the event OriginateResponse, or
    with the first answer where that is a refusal. Measured on 16 and 22: that the number is busy, that there is no such
    endpoint, or that the ChannelId is in use, is only said by the event (Reason 0 in each case); refused at once are a
    `channel` without a slash, a ChannelId of 150 characters, and an account that may not originate.
    """

    def __init__(self, headers: dict[str, str], variables: Mapping[str, str], timeout: float) -> None:
        super().__init__("Originate", headers)
        self._variables = dict(variables)
        self.timeout = timeout
        """Seconds that the far side has to answer."""
        self.queued: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.queued.add_done_callback(lambda queued: queued.cancelled() or queued.exception())
        self.future.add_done_callback(self._ended)

    def headers(self) -> Iterable[tuple[str, str]]:
        """See Request."""
        yield from self.items()
        for name, value in self._variables.items():
            # Asterisk takes commas for the end of a variable, and quotes, brackets and backslashes out of it.
            escaped = _SEPARATING.sub(r"\\\g<0>", value)
            yield "Variable", f"{name}={escaped}"

    def add_message(self, message: Message) -> bool:
        """Take a message of the answer (for panoramisk); say whether it was the last one."""
        if self.future.done():
            return True
        if message.event == "OriginateResponse" or not (message.success or self.queued.done()):
            self.future.set_result(message)
            return True
        if not self.queued.done():
            self.queued.set_result(message)
        return False

    def _ended(self, future: asyncio.Future[Message]) -> None:
        if self.queued.done():
            return
        if future.cancelled():
            self.queued.cancel()
        elif error := future.exception():
            self.queued.set_exception(error)
        else:
            self.queued.set_result(future.result())


class StatusReader:
    """Reads the events of one answer to a `Status` action; of what kind it was says its ActionID.

    A listing of all channels gives one Snapshot at its end, any other an ApplicationSeen for each channel: who else
    asked, and for what, a recording does not say, but what a channel runs is true in any case.
    """

    def __init__(self, action_id: str) -> None:
        self._all = action_id.startswith(_SNAPSHOT)
        self._channels: list[ChannelListed] = []
        self._began: float | None = None
        self.signal: Signal | None = None
        """What the answer has said so far."""

    def read(self, message: bytes, at: float) -> Signal | None:
        """Take the next message of the answer. `at`: see `calls.signalling`."""
        if self._began is None:
            self._began = at
        event = event_name(message)
        signal: Signal | None = None
        if event == b"Status" and self._all:
            listed = channel_listed(message)
            if listed is not None:
                self._channels.append(listed)
        elif event == b"Status":
            signal = application_seen(message, at)
        elif event == b"StatusComplete" and self._all:
            signal = Snapshot(at, tuple(self._channels), self._began)
        self.signal = signal or self.signal
        return signal


def action_id_of(message: bytes) -> str:
    """Give the ActionID that a message carries, empty for none."""
    return raw_header(message, b"\r\nActionID: ").decode("utf-8", "replace")


def login(username: str, secret: str) -> Request:
    """Log in with the secret as it is. Events are wanted: which ones, the account's `read` says."""
    return Request("Login", {"Username": username, "Secret": secret, "Events": "on"})


def challenge() -> Request:
    """Ask for a challenge; its answer holds it in `Challenge`."""
    return Request("Challenge", {"AuthType": "MD5"})


def login_md5(username: str, secret: str, challenge: str) -> Request:
    """Log in without sending the secret: `Key` = MD5 of challenge and secret (AMI's own scheme)."""
    key = hashlib.md5((challenge + secret).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return Request("Login", {"AuthType": "MD5", "Username": username, "Key": key, "Events": "on"})


def ping() -> Request:
    """Ask for a sign of life; every account may."""
    return Request("Ping")


def logoff() -> Request:
    """Say good-bye."""
    return Request("Logoff")


def list_commands() -> Request:
    """Ask which actions the account may run."""
    return Request("ListCommands")


def status() -> ListingRequest:
    """List all channels (needs any of `write`'s system, call or reporting)."""
    return ListingRequest({}, _SNAPSHOT)


def status_of(channel: str) -> ListingRequest:
    """Show one channel, by its name."""
    return ListingRequest({"Channel": channel}, _APPLICATION)


def hangup(channel: str, cause: int) -> Request:
    """End a channel with a Q.850 cause; 17 makes a caller that is not yet up hear busy (measured: SIP 486)."""
    return Request("Hangup", {"Channel": channel, "Cause": str(cause)})


def setvar(channel: str, variable: str, value: str) -> Request:
    """Set a variable, or a function such as `CALLERID(num)`, of the channel of this name (needs `write`'s call)."""
    return Request("Setvar", {"Channel": channel, "Variable": variable, "Value": value})


def originate(
    *,
    channel: str,
    application: str,
    data: str,
    caller_id: str,
    channel_id: str,
    other_channel_id: str = "",
    timeout: float,
    variables: Mapping[str, str] | None = None,
) -> OriginateRequest:
    """Dial `channel` (`PJSIP/<number>@<trunk>`, `Local/<number>@<context>/n`), and run an application when it answers.

    `caller_id` is `<number>` or `"name" <number>`. `channel_id` becomes the new channel's Uniqueid, `other_channel_id`
    that of a Local channel's second half (without it Asterisk puts `;2` behind the first); at most 149
    characters, and unique, which Asterisk only knows of those that exist. `timeout`: seconds that the far side may
    ring. A leading `_` or `__` of a variable's name is Asterisk's way to have it
    inherited. Needs `write`'s originate.
    """
    headers = {
        "Channel": channel,
        "Application": application,
        "Data": data,
        "CallerID": caller_id,
        "ChannelId": channel_id,
        **({"OtherChannelId": other_channel_id} if other_channel_id else {}),
        "Timeout": str(round(timeout * 1000)),
        "Async": "true",
    }
    return OriginateRequest(headers, variables or {}, timeout)


def listing(name: str, headers: Mapping[str, str] | None = None) -> Request:
    """Ask for a list (`QueueStatus`, `PJSIPShowEndpoints` …) that is of no concern to the tracker."""
    return Request(name, dict(headers or {}))


def getvar(variable: str) -> Request:
    """Ask for a global variable, or for what a function of the dialplan gives (needs `write`'s call or reporting)."""
    return Request("Getvar", {"Variable": variable})


def device_states() -> Request:
    """List the devices that Asterisk knows, with their states (needs `write`'s call or reporting)."""
    return Request("DeviceStateList")


def set_device_state(name: str, state: str) -> Request:
    """Set the state of the custom device `name`: a device of nobody's, whose change is an event of class `call`.

    Needs `write`'s call. Asterisk keeps the state in its database (key CustomDevstate/<name>).
    """
    return Request("Setvar", {"Variable": f"DEVICE_STATE(Custom:{name})", "Value": state})
