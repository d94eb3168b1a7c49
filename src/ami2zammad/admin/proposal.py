"""What `init` proposes: which endpoints are trunks, and who the agents are. Pure: from what was found, nothing else.

A trunk taken for a phone makes its calls internal ones, which nobody is told of; a phone taken for a trunk makes
internal calls look as if they came from outside. So every judgement gives its reason, for the administrator to see.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ami2zammad.asterisk.survey import Endpoint, QueueMember, Survey
from ami2zammad.calls.sides import DEFAULT_TRUNK_CONTEXTS, Side, TrunkPatterns

OUTSIDE_CONTEXTS: Final = (
    "from-dahdi",
    "from-gateway",
    "from-isdn",
    "from-itsp",
    "from-outside",
    "from-sip-external",
    "from-zaptel",
    "inbound",
    "incoming",
)
"""Contexts that lead inwards too, by FreePBX's and common guides' names, but are not among the default globs."""

_EXTENSION: Final = re.compile("[0-9]{2,6}")
_NUMBER: Final = re.compile("[0-9]+")
_CALLER_NUMBER: Final = re.compile(r"\+?[0-9]{2,}")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9]+/\S+")
_TRUNK_WORD: Final = re.compile("trunk|provider|pstn|carrier|itsp", re.IGNORECASE)
_DIALLED_EXTENSION: Final = re.compile(r"(?:Local/|hint:)(?P<extension>[0-9]{2,6})@.*", re.IGNORECASE)

_NO_PHONES: Final = frozenset({"dpma_endpoint"})
"""Endpoints that neither call nor are called: Digium's phones are set up through it (FreePBX has it too)."""

_LONGEST_NAME: Final = 250
_LONGEST_EXTENSION: Final = 64
"""As in `AgentSettings`."""


class Role(Enum):
    """What an endpoint is."""

    TRUNK = "trunk"
    PHONE = "phone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an endpoint seems to be, and why. `sure` is false where nothing but the lack of signs speaks for it."""

    endpoint: Endpoint
    role: Role
    reason: str
    sure: bool = True


@dataclass(frozen=True, slots=True)
class ProposedAgent:
    """An agent; texts are fit for the settings. `queues` are those that have the extension as a member."""

    extension: str
    name: str = ""
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """All that is proposed. `trunks` and `contexts` are globs, `contexts` those beyond the default ones."""

    judgements: tuple[Judgement, ...]
    trunks: tuple[str, ...]
    contexts: tuple[str, ...]
    agents: tuple[ProposedAgent, ...]


def propose(survey: Survey) -> Proposal:
    """Judge all endpoints."""
    members = _members(survey)
    rest = [endpoint for endpoint in survey.endpoints if endpoint.name not in _NO_PHONES]
    judgements: list[Judgement] = []
    undecided: list[Endpoint] = []
    for endpoint in rest:
        judgement = _judge(endpoint, members)
        if judgement is None:
            undecided.append(endpoint)
        else:
            judgements.append(judgement)
    phones_contexts = {one.endpoint.context for one in judgements if one.role is Role.PHONE}
    leading_in = survey.contexts & set(OUTSIDE_CONTEXTS) - phones_contexts
    judgements += [_guess(endpoint, phones_contexts) for endpoint in undecided]
    order = {endpoint.channel: position for position, endpoint in enumerate(rest)}
    judgements.sort(key=lambda judgement: order[judgement.endpoint.channel])
    phones = [one.endpoint for one in judgements if one.role is Role.PHONE]
    return Proposal(
        tuple(judgements),
        tuple(channel_glob(one.endpoint.channel) for one in judgements if one.role is Role.TRUNK),
        tuple(sorted(leading_in)),
        tuple(_agents(phones, members)),
    )


def channel_glob(channel: str) -> str:
    """Give the glob that matches just the channels of this name (without suffix).

    A control character, which the settings do not allow, becomes the glob for any one character.
    """
    special = re.sub(r"[*?\[]", r"[\g<0>]", channel)
    return "".join("?" if _is_control(character) else character for character in special)


def clean(text: str) -> str:
    """Give one line of text that the settings take: no control characters, no spaces in front and behind."""
    return "".join(" " if _is_control(character) else character for character in text).strip()


def _is_control(character: str) -> bool:
    code = ord(character)
    # Also C1, line separators and half characters: they are no text, and some cannot be written.
    return code < 0x20 or 0x7F <= code < 0xA0 or code in {0x2028, 0x2029} or 0xD800 <= code < 0xE000  # noqa: PLR2004


def _members(survey: Survey) -> Mapping[str, list[QueueMember]]:
    """Sort members by what they are reached at: a channel's name (`PJSIP/100`), else an extension.

    A member that is reached through the dialplan (`Local/800@from-queue`) is whose state the queue watches.
    """
    channels = {endpoint.channel for endpoint in survey.endpoints}
    found: dict[str, list[QueueMember]] = {}
    for member in survey.members:
        reached = (member.state_interface, member.interface)
        channel = next((one for one in reached if one in channels), "")
        extension = next((match["extension"] for one in reached if (match := _DIALLED_EXTENSION.fullmatch(one))), "")
        if channel or extension:
            found.setdefault(channel or extension, []).append(member)
    return found


def _judge(endpoint: Endpoint, members: Mapping[str, list[QueueMember]]) -> Judgement | None:
    """Decide by the first sign that there is; None without any."""
    outside = TrunkPatterns((), DEFAULT_TRUNK_CONTEXTS).side_of("", endpoint.context) is Side.OUTSIDE
    queues = _queues(members.get(endpoint.channel, []))
    extension = _EXTENSION.fullmatch(endpoint.name)
    by_context = f"its calls come in by context {clean(endpoint.context)}"
    shown = f'"{clean(endpoint.caller_name)}" <{clean(endpoint.caller_number)}>'
    signs: tuple[tuple[object, Role, str], ...] = (
        (endpoint.registers, Role.TRUNK, "Asterisk registers there"),
        (queues, Role.PHONE, f"is in queue {', '.join(queues)}"),
        (outside, Role.TRUNK, by_context),
        (extension and endpoint.caller_number, Role.PHONE, f"is called like an extension, has caller ID {shown}"),
        (endpoint.context in OUTSIDE_CONTEXTS, Role.TRUNK, by_context),
        (endpoint.has_credentials, Role.TRUNK, "Asterisk logs in there (outbound_auth)"),
        (extension, Role.PHONE, "is called like an extension"),
        (_TRUNK_WORD.search(endpoint.name), Role.TRUNK, "its name says so"),
        (_CALLER_NUMBER.fullmatch(endpoint.caller_number), Role.PHONE, f"has caller ID {shown}"),
        (endpoint.fixed_address, Role.TRUNK, "does not register with Asterisk, has a fixed address"),
    )
    for sign, role, reason in signs:
        if sign:
            return Judgement(endpoint, role, reason)
    return None


def _guess(endpoint: Endpoint, phones_contexts: Collection[str]) -> Judgement:
    if endpoint.context and endpoint.context in phones_contexts:
        return Judgement(endpoint, Role.PHONE, f"calls by context {clean(endpoint.context)} as phones do", sure=False)
    if not endpoint.context:
        return Judgement(endpoint, Role.UNKNOWN, "nothing is known of it", sure=False)
    reason = f"has no caller ID, and a context of its own ({clean(endpoint.context)})"
    return Judgement(endpoint, Role.TRUNK, reason, sure=False)


def _agents(phones: Iterable[Endpoint], members: Mapping[str, list[QueueMember]]) -> list[ProposedAgent]:
    phones = list(phones)
    names = {phone.name for phone in phones}
    agents: dict[str, ProposedAgent] = {}
    for phone in phones:
        # One user, several devices: FreePBX calls the second one 99100, with caller ID 100.
        numbered = _NUMBER.fullmatch(phone.name)
        if numbered and phone.caller_number != phone.name and phone.caller_number in names:
            continue
        # Endpoints are often called after a MAC address or a person; their caller ID is the extension then.
        extension = phone.caller_number if not numbered and _NUMBER.fullmatch(phone.caller_number) else phone.name
        reached = [*members.get(phone.channel, []), *members.get(extension, [])]
        _add(agents, extension, [phone.caller_name, *(member.name for member in reached)], _queues(reached))
    for key, reached in members.items():
        if _EXTENSION.fullmatch(key):
            _add(agents, key, [member.name for member in reached], _queues(reached))
    return list(agents.values())


def _add(agents: dict[str, ProposedAgent], extension: str, names: Iterable[str], queues: tuple[str, ...]) -> None:
    if clean(extension) != extension or not 0 < len(extension) <= _LONGEST_EXTENSION:
        return  # no call could be told to be this agent's
    known = agents.get(extension, ProposedAgent(extension))
    # A member without a name is called after its interface, an endpoint sometimes after its number.
    usable = (
        name[:_LONGEST_NAME] for name in map(clean, names) if name != extension and not _INTERFACE.fullmatch(name)
    )
    name = known.name or next((name for name in usable if name), "")
    agents[extension] = ProposedAgent(extension, name, tuple(dict.fromkeys((*known.queues, *queues))))


def _queues(members: Iterable[QueueMember]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean(member.queue) for member in members))
