"""`check`: one command to run after editing the configuration; says what to change for each ✗."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table

from ami2zammad.asterisk import actions
from ami2zammad.asterisk.connection import AmiSession
from ami2zammad.asterisk.errors import AsteriskError
from ami2zammad.asterisk.events import event_name
from ami2zammad.asterisk.survey import caller_numbers, existing_peers
from ami2zammad.calls.sides import Side, TrunkPatterns, base_name
from ami2zammad.calls.signalling import Snapshot
from ami2zammad.rules import ami_endpoint, tracker_rules, zammad_endpoint
from ami2zammad.settings import Settings
from ami2zammad.zammad.client import ZammadClient
from ami2zammad.zammad.errors import ZammadError

_LEAST_RIGHTS: Final = "read = call,agent and write = call,originate"
_TEST_DEVICE: Final = "ami2zammad-check"
# How long Asterisk may take to tell us of an event that it makes at once.
_EVENT_PATIENCE: Final = 5.0
_WIDTH: Final = 120
# A PBX can have thousands of devices; nobody reads them all in a table.
_NAMES_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table: `remedy` is empty where all is well."""

    subject: str
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Nothing has to be changed."""
        return not self.remedy


async def check(settings: Settings, *, output: TextIO | None = None) -> bool:
    """Look at everything that the bridge depends on, print a table, and return whether all is well."""
    findings = [Finding("settings", "read and valid")]
    asterisk, zammad = await asyncio.gather(check_asterisk(settings), check_zammad(settings))
    findings += [*asterisk, *zammad]
    _print(findings, output)
    return all(finding.ok for finding in findings)


async def check_asterisk(settings: Settings) -> list[Finding]:
    """Log in; find out what the account may do, what it gets to see, and which devices the settings match."""
    endpoint = ami_endpoint(settings)
    where = f"{endpoint.host}:{endpoint.port}"
    events = _EventWatch()
    try:
        session = await AmiSession.open(endpoint, lambda _: None, tap=events)
    except AsteriskError as error:
        return [Finding("Asterisk", error.problem, error.remedy)]
    findings = [Finding("Asterisk", f"{where}: logged in as {endpoint.username}, AMI {session.version}")]
    try:
        findings += await _check_account(session, events, _actions_needed(settings))
        findings += await _check_devices(session, settings)
    except AsteriskError as error:
        findings.append(Finding("Asterisk", error.problem, error.remedy))
    finally:
        await session.close()
    return findings


async def check_zammad(settings: Settings) -> list[Finding]:
    """Prove address, token and that the integration is on, without a trace in the caller log."""
    try:
        async with ZammadClient(zammad_endpoint(settings)) as client:
            result = await client.check()
    except ZammadError as error:
        return [Finding("Zammad", "cannot be asked", str(error))]
    if result.ok:
        return [Finding("Zammad", f"{result.url}: the endpoint is there, the token fits, the integration is on")]
    return [Finding("Zammad", f"{result.url}: {result.problem}", result.remedy)]


class _EventWatch:
    """A tap that notices when Asterisk tells of a device state, an event of class `call`."""

    def __init__(self) -> None:
        self.seen = asyncio.Event()

    def __call__(self, message: bytes) -> None:
        if event_name(message) == b"DeviceStateChange" and _TEST_DEVICE.encode() in message:
            self.seen.set()


def _actions_needed(settings: Settings) -> tuple[str, ...]:
    """Return what the bridge will ask Asterisk to do with these settings."""
    control = settings.control
    dials = control.originate or settings.ops.token is not None
    return (
        *("Status", "DeviceStateList", "Setvar"),
        *(("Hangup",) if control.reject or dials else ()),
        *(("Originate",) if dials else ()),
    )


async def _check_account(session: AmiSession, events: _EventWatch, needed: Sequence[str]) -> list[Finding]:
    allowed = {command.lower() for command in await session.commands()}
    missing = [action for action in needed if action.lower() not in allowed]
    if missing:
        return [
            Finding(
                "AMI account",
                f"may not run {', '.join(missing)}",
                f"in manager.conf give the account {_LEAST_RIGHTS}, then: asterisk -rx 'manager reload'",
            )
        ]
    findings = [Finding("AMI account", "may do what the bridge needs")]
    # No action tells which events an account reads. So Asterisk is asked to change the state of a device that
    # nobody uses, which is an event of class `call`: it comes, or the account does not read that class.
    for state in ("INUSE", "NOT_INUSE"):
        await session.send(actions.set_device_state(_TEST_DEVICE, state))
    try:
        async with asyncio.timeout(_EVENT_PATIENCE):
            await events.seen.wait()
    except TimeoutError:
        remedy = f"in manager.conf give the account {_LEAST_RIGHTS} (and let no eventfilter hide call events)"
        return [*findings, Finding("AMI events", "the account does not get to see events of calls", remedy)]
    # Class agent (queues) cannot be provoked: the sentence must not promise more than was seen.
    return [*findings, Finding("AMI events", "the account sees events of calls (class call; queues need class agent)")]


async def _check_devices(session: AmiSession, settings: Settings) -> list[Finding]:
    snapshot = await session.snapshot()
    rules = tracker_rules(settings)
    sides = TrunkPatterns(rules.trunks, rules.trunk_contexts)
    known = set(await _devices(session)) | {base_name(channel.name) for channel in snapshot.channels}
    known |= await existing_peers(session, _expected(settings, known) - known)
    devices = sorted(device for device in known if sides.side_of(_channel(device), "") is not Side.PLUMBING)
    findings = _check_trunks(devices, snapshot, settings)
    inside = [device for device in devices if sides.side_of(_channel(device), "") is Side.INSIDE]
    endpoints = {device.partition("/")[2] for device in inside}
    reached = set(endpoints)
    if any(agent.extension not in endpoints for agent in settings.agents):
        # An endpoint called after a person or a MAC address has its extension in its caller ID.
        reached |= await caller_numbers(session, inside)
    for agent in settings.agents:
        if agent.extension in reached:
            findings.append(Finding("agent", f"{agent.extension} {agent.name}: device found"))
        else:
            remedy = f"set agents.extension to one of the devices: {_some(sorted(endpoints))}"
            findings.append(Finding("agent", f"{agent.extension} {agent.name}: no such device", remedy))
    if not settings.agents:
        findings.append(Finding("agents", f"none configured; devices inside: {_some(inside)}"))
    return findings


def _expected(settings: Settings, known: Collection[str]) -> set[str]:
    """Return the channels that should be there by the settings, as far as these name technologies."""
    trunks = {pattern for pattern in settings.asterisk.trunks if "/" in pattern}
    technologies = {channel.partition("/")[0] for channel in (*known, *trunks)}
    return trunks | {f"{technology}/{agent.extension}" for technology in technologies for agent in settings.agents}


def _channel(device: str) -> str:
    """Return the name of a channel of this device: what looks like a suffix in the device's own name must stay."""
    return f"{device}-00000000"


async def _devices(session: AmiSession) -> list[str]:
    """Return the devices whose state Asterisk knows, as channel names without suffix."""
    answer = await session.send(actions.device_states())
    messages = answer if isinstance(answer, list) else [answer]
    names = [str(message.device) for message in messages if message.event == "DeviceStateChange"]
    # `Queue:support_pause_PJSIP/100`, `Custom:…` and the like are no devices that could call.
    return [name for name in names if "/" in name and ":" not in name.partition("/")[0]]


def _check_trunks(devices: Sequence[str], snapshot: Snapshot, settings: Settings) -> list[Finding]:
    asterisk = settings.asterisk
    findings = []
    for pattern in asterisk.trunks:
        names = TrunkPatterns([pattern], [])
        matched = [device for device in devices if names.side_of(_channel(device), "") is Side.OUTSIDE]
        if matched:
            findings.append(Finding("trunk", f"{pattern} is {_some(matched)}"))
        else:
            remedy = f"set asterisk.trunks to globs on these: {_some(devices)}"
            findings.append(Finding("trunk", f"{pattern} matches no device", remedy))
    contexts = TrunkPatterns([], asterisk.trunk_contexts)
    live = sum(1 for channel in snapshot.channels if contexts.side_of(channel.name, channel.context) is Side.OUTSIDE)
    by_context = (
        f"by context {', '.join(asterisk.trunk_contexts) or '(none)'}: {live} of {len(snapshot.channels)} channels"
    )
    if asterisk.trunks or asterisk.trunk_contexts:
        findings.append(Finding("trunks", by_context))
    else:
        remedy = "set asterisk.trunks or asterisk.trunk_contexts, else every call counts as internal"
        findings.append(Finding("trunks", "no channel can be one", remedy))
    return findings


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN]) or "(none)"
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _print(findings: Sequence[Finding], output: TextIO | None) -> None:
    console = Console(file=output)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    good, bad = ("✓", "✗") if console.encoding.startswith("utf") else ("ok", "!!")
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = f"[green]{good}[/]" if finding.ok else f"[red]{bad}[/]"
        table.add_row(mark, finding.subject, _plain(finding.detail))
        if finding.remedy:
            table.add_row("", "", f"[bold]→ {_plain(finding.remedy)}[/]")
    console.print(table)


def _plain(text: str) -> str:
    """Return text in which rich sees no mark-up of its own."""
    return text.replace("[", r"\[")
