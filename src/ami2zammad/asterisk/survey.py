"""What a PBX has: endpoints, queues and their members, as far as the account may look. For who sets the bridge up.

Rights, as measured on Asterisk 16.28 and 22.10 (`ListCommands` of a full account, and by trying): `Getvar` and
`DeviceStateList` need `write`'s call or reporting, `QueueStatus` none; outbound registrations and the peers of chan_sip
and chan_iax2 need system or reporting; `PJSIPShowEndpoints` and `PJSIPShowEndpoint` need system. PJSIP endpoints have
a device state from the start, peers of chan_sip and chan_iax2 need not have one. With a name known, `Getvar` and the
functions PJSIP_ENDPOINT, SIPPEER, IAXPEER tell the rest: so the account of the bridge sees nearly all there is. The
function DB is no way into Asterisk's database: it counts as dangerous, and asking for it leaves an error in the log.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.errors import ActionRefused, GarbledAnswer, HeaderInjection
from ami2zammad.calls.sides import Side, TrunkPatterns, base_name

if TYPE_CHECKING:
    from ami2zammad.asterisk.actions import Message
    from ami2zammad.asterisk.connection import AmiSession

_AT_ONCE: Final = 16
"""Questions under way at once: the PBX has calls to connect meanwhile."""

_ASKABLE: Final = re.compile(r"""[^\x00-\x1f\x7f,(){}$"\\]+""")
"""Names that can stand in a dialplan function as they are."""

_NOTHING: Final = frozenset({"", "<unknown>", "(null)", "unknown"})
"""What Asterisk says where it knows nothing."""

_EXTENSION: Final = re.compile("[0-9]{1,6}")

_CALLER_ID: Final = re.compile(r"(?P<name>.*?)\s*<(?P<number>[^<>]*)>\s*", re.DOTALL)

_PEER_FUNCTIONS: Final = {"SIP": "SIPPEER", "IAX2": "IAXPEER"}

_PLACEHOLDER: Final = "device"
"""The caller's name that FreePBX gives to a device whose user's name is only in its database."""

_PLUMBING: Final = TrunkPatterns((), ())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What calls, or is called: a phone or a trunk. Names are as Asterisk has them, nothing is cleaned.

    `technology` as in channel names (PJSIP, SIP, IAX2 …). `registers`: Asterisk registers there. `has_credentials`:
    Asterisk logs in there when it calls (PJSIP's outbound_auth). `fixed_address`: it does not register with Asterisk,
    which knows its address. Where it could not be found out, all of these are false, and texts are empty.
    """

    technology: str
    name: str
    context: str = ""
    caller_name: str = ""
    caller_number: str = ""
    registers: bool = False
    has_credentials: bool = False
    fixed_address: bool = False

    @property
    def channel(self) -> str:
        """The name of its channels without their suffix."""
        return f"{self.technology}/{self.name}"


@dataclass(frozen=True, slots=True)
class QueueMember:
    """A member of a queue. `interface` is what the queue dials, `state_interface` whose state it watches."""

    queue: str
    name: str
    interface: str
    state_interface: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """What could not be found out, and the right (a class of manager.conf's `write`) that would help."""

    what: str
    right: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found. `contexts` are those that exist of the contexts that were asked for."""

    endpoints: tuple[Endpoint, ...] = ()
    queues: tuple[str, ...] = ()
    members: tuple[QueueMember, ...] = ()
    contexts: frozenset[str] = frozenset()
    gaps: tuple[Gap, ...] = ()


async def survey(session: AmiSession, contexts: Iterable[str] = ()) -> Survey:
    """Find out what there is; ask for `contexts` by name, as whole dialplans can be very long.

    What the account may not see is a gap, no error. Raises what `AmiSession.send` raises, for the connection's sake.
    """
    surveyor = _Surveyor(session)
    named = await surveyor.endpoints()
    queues, members = await surveyor.queues()
    named += [
        endpoint
        for member in members
        for one in (member.interface, member.state_interface)
        if (endpoint := _device(one))
    ]
    # The same endpoint from several lists: what any of them knows of it counts.
    endpoints: dict[str, Endpoint] = {}
    for endpoint in named:
        known = endpoints.get(endpoint.channel, endpoint)
        endpoints[endpoint.channel] = replace(known, fixed_address=known.fixed_address or endpoint.fixed_address)
    described = await surveyor.each(surveyor.describe, endpoints.values())
    described = await surveyor.names(described)
    described = await surveyor.registrations(described)
    described = await surveyor.each(surveyor.identify, described)
    return Survey(
        tuple(sorted(described, key=_in_order)),
        queues,
        members,
        await surveyor.existing(sorted(set(contexts))),
        tuple(surveyor.gaps),
    )


async def caller_numbers(session: AmiSession, channels: Iterable[str]) -> set[str]:
    """Give the numbers that these endpoints (`PJSIP/emma`) call with. Raises what `AmiSession.send` raises."""
    surveyor = _Surveyor(session)
    endpoints = [endpoint for channel in channels if (endpoint := _device(channel))]
    described = await surveyor.each(surveyor.describe, endpoints)
    return {endpoint.caller_number for endpoint in described if endpoint.caller_number}


async def existing_peers(session: AmiSession, channels: Iterable[str]) -> set[str]:
    """Give those of these channels (`SIP/acme`) that are peers of chan_sip or chan_iax2.

    Not all of them have a device state. Raises what `AmiSession.send` raises.
    """
    surveyor = _Surveyor(session)
    endpoints = [
        endpoint for channel in channels if (endpoint := _device(channel)) and endpoint.technology in _PEER_FUNCTIONS
    ]
    return {endpoint.channel for endpoint in endpoints if await surveyor.is_peer(endpoint)}


def caller_id(text: str) -> tuple[str, str]:
    """Take a caller ID apart, `"Emma Taylor" <100>` say, into name and number; either may be empty."""
    if text in _NOTHING:
        return "", ""
    match = _CALLER_ID.fullmatch(text)
    name, number = (match["name"], match["number"]) if match else (text, "")
    name = name.strip()
    if name.startswith('"'):
        # Asterisk does not escape the quotes in a name; a name that a semicolon cut short has no second one.
        name = name[1:].removesuffix('"').replace('\\"', '"')
    elif match is None and re.fullmatch("[+0-9*#]+", name):
        name, number = "", name
    return ("" if name in _NOTHING else name), ("" if number in _NOTHING else number)


class _Surveyor:
    def __init__(self, session: AmiSession) -> None:
        self._session = session
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self.gaps: list[Gap] = []

    async def endpoints(self) -> list[Endpoint]:
        """Give what has a name, from all lists that there are."""
        found = [
            endpoint
            for event in await self._list("DeviceStateList", gap=Gap("the devices", "call"))
            if event.event == "DeviceStateChange" and (endpoint := _device(_text(event, "Device")))
        ]
        snapshot = await self._channels()
        found += [endpoint for name in snapshot if (endpoint := _device(base_name(name)))]
        # Whatever PJSIP has, has a device state: without this right hardly anything is missing.
        found += [
            Endpoint("PJSIP", _text(event, "ObjectName"))
            for event in await self._list("PJSIPShowEndpoints")
            if event.event == "EndpointList"
        ]
        for technology, action in (("SIP", "SIPpeers"), ("IAX2", "IAXpeerlist")):
            gap = Gap(f"peers of {technology} that neither registered nor are members of a queue", "reporting")
            found += [
                Endpoint(technology, _text(event, "ObjectName"), fixed_address=_text(event, "Dynamic") == "no")
                for event in await self._list(action, gap=gap)
                if event.event == "PeerEntry"
            ]
        return [endpoint for endpoint in found if endpoint.name]

    async def queues(self) -> tuple[tuple[str, ...], tuple[QueueMember, ...]]:
        """Give the queues, and all their members."""
        events = await self._list("QueueStatus", gap=Gap("queues", "call"))
        queues = [_text(event, "Queue") for event in events if event.event == "QueueParams"]
        members = [
            QueueMember(
                _text(event, "Queue"),
                _text(event, "Name"),
                _text(event, "Location"),
                _text(event, "StateInterface"),
            )
            for event in events
            if event.event == "QueueMember"
        ]
        return tuple(sorted(queues)), tuple(sorted(members, key=lambda member: (member.queue, member.interface)))

    async def describe(self, endpoint: Endpoint) -> Endpoint:
        """Ask for all that functions of the dialplan tell of an endpoint."""
        if not _ASKABLE.fullmatch(endpoint.name):
            return endpoint
        if endpoint.technology == "PJSIP":
            endpoint = await self._describe_pjsip(endpoint)
        elif endpoint.technology in _PEER_FUNCTIONS:
            endpoint = await self._describe_peer(endpoint, _PEER_FUNCTIONS[endpoint.technology])
        return endpoint

    async def _describe_pjsip(self, endpoint: Endpoint) -> Endpoint:
        context, shown, credentials = [
            await self._value(f"PJSIP_ENDPOINT({endpoint.name},{field})")
            for field in ("context", "callerid", "outbound_auth")
        ]
        name, number = caller_id(shown)
        return replace(
            endpoint, context=context, caller_name=name, caller_number=number, has_credentials=bool(credentials)
        )

    async def _describe_peer(self, endpoint: Endpoint, function: str) -> Endpoint:
        context, name, number, dynamic = [
            await self._value(f"{function}({endpoint.name},{field})")
            for field in ("context", "callerid_name", "callerid_num", "dynamic")
        ]
        fixed = endpoint.fixed_address or dynamic == "no"
        return replace(endpoint, context=context, caller_name=name, caller_number=number, fixed_address=fixed)

    async def names(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Name extensions after the owner of their mailbox, or as FreePBX's database does, where nothing else does."""
        nameless = [
            one for one in endpoints if one.caller_name in {"", _PLACEHOLDER} and _EXTENSION.fullmatch(one.name)
        ]
        if not nameless:
            return list(endpoints)
        owners = {
            _text(event, "VoiceMailbox"): _text(event, "Fullname")
            for event in await self._list("VoicemailUsersList")
            if event.event == "VoicemailUserEntry"
        }
        found = {}
        for endpoint in nameless:
            name = owners.get(endpoint.name, "")
            if not name and endpoint.caller_name == _PLACEHOLDER:
                name = await self._name_in_freepbx(endpoint.name)
            found[endpoint.channel] = "" if name in _NOTHING else name
        return [replace(one, caller_name=found.get(one.channel, one.caller_name)) for one in endpoints]

    async def _name_in_freepbx(self, extension: str) -> str:
        gap = Gap("names that are only in FreePBX's database", "reporting")
        key = {"Family": "AMPUSER", "Key": f"{extension}/cidname"}
        for event in await self._list("DBGet", key, gap):
            if event.event == "DBGetResponse":
                return _text(event, "Val")
        return ""

    async def is_peer(self, endpoint: Endpoint) -> bool:
        """Say whether there is such a peer."""
        if not _ASKABLE.fullmatch(endpoint.name):
            return False
        function = _PEER_FUNCTIONS[endpoint.technology]
        return await self._value(f"{function}({endpoint.name},dynamic)") in {"yes", "no"}

    async def registrations(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Mark those with which Asterisk registers."""
        events = await self._list("PJSIPShowRegistrationsOutbound", gap=Gap("where Asterisk registers", "reporting"))
        # A registration that names no endpoint is mostly called like it. (Its password comes along; it is left alone.)
        names = {
            _text(event, "Endpoint") or _text(event, "ObjectName")
            for event in events
            if event.event == "OutboundRegistrationDetail"
        }
        return [
            replace(endpoint, registers=endpoint.technology == "PJSIP" and endpoint.name in names)
            for endpoint in endpoints
        ]

    async def identify(self, endpoint: Endpoint) -> Endpoint:
        """Find out whether an endpoint is recognised by its address, where nothing else says what it is."""
        told = (
            endpoint.registers
            or endpoint.has_credentials
            or endpoint.caller_number
            or _EXTENSION.fullmatch(endpoint.name)
        )
        if endpoint.technology != "PJSIP" or told:
            return endpoint
        gap = Gap("which endpoints Asterisk recognises by their address", "system")
        events = await self._list("PJSIPShowEndpoint", {"Endpoint": endpoint.name}, gap)
        return replace(endpoint, fixed_address=any(event.event == "IdentifyDetail" for event in events))

    async def existing(self, contexts: Sequence[str]) -> frozenset[str]:
        """Give those of the contexts that the dialplan has."""
        answers = await asyncio.gather(*(self._value(f"DIALPLAN_EXISTS({context})") for context in contexts))
        return frozenset(context for context, answer in zip(contexts, answers, strict=True) if answer == "1")

    async def each(
        self, ask: Callable[[Endpoint], Awaitable[Endpoint]], endpoints: Iterable[Endpoint]
    ) -> list[Endpoint]:
        """Ask about each endpoint, some at a time."""
        return list(await asyncio.gather(*(ask(endpoint) for endpoint in endpoints)))

    async def _channels(self) -> list[str]:
        try:
            snapshot = await self._session.snapshot()
        except ActionRefused:
            return []
        return [channel.name for channel in snapshot.channels]

    async def _list(self, name: str, headers: Mapping[str, str] | None = None, gap: Gap | None = None) -> list[Message]:
        """Give the events that answer an action; none if there is nothing, or if the account may not ask (a gap)."""
        try:
            async with self._limit:
                answer = await self._session.send(actions.listing(name, headers))
        except HeaderInjection:  # a name that cannot be asked for
            return []
        except GarbledAnswer:  # too long
            answer = None
        if isinstance(answer, list):
            return answer
        # Without the module, "Invalid/unknown command"; with nothing to list, some actions say so as an error.
        if gap is not None and gap not in self.gaps and (answer is None or "ermission denied" in str(answer.message)):
            self.gaps.append(gap)
        return []

    async def _value(self, variable: str) -> str:
        async with self._limit:
            answer = await self._session.send(actions.getvar(variable))
        if isinstance(answer, list):
            return ""
        value = _text(answer, "Value")
        return "" if value in _NOTHING else value


def _text(message: Message, header: str) -> str:
    value = message.get(header)
    return value if isinstance(value, str) else ""


def _device(text: str) -> Endpoint | None:
    """Give the endpoint that a device state, a channel or a queue's member is about; None: none that could call.

    `Queue:support_avail`, `hint:100@ext-local` are none, nor are `Local/…` and a number dialled through a trunk. A
    channel of an ISDN span (`DAHDI/i1/4930…`) is called after the number.
    """
    technology, slash, name = text.partition("/")
    if not slash or not name or ":" in technology or "@" in name or "/" in name:
        return None
    if _PLUMBING.side_of(text, "") is Side.PLUMBING:
        return None
    return Endpoint(technology, name)


def _in_order(endpoint: Endpoint) -> tuple[str, bool, int, str]:
    """Sort extensions as numbers, before names."""
    number = endpoint.name if endpoint.name.isascii() and endpoint.name.isdigit() else ""
    return endpoint.technology, not number, len(number), endpoint.name
