"""`demo`: recorded calls of a real Asterisk, the real bridge, a stand-in for Zammad; all on loopback, free ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from ami2zammad.bridge import Bridge
from ami2zammad.logs import configure_logging
from ami2zammad.sandbox.page import add_pages
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.rows import state, who
from ami2zammad.sandbox.serving import until_interrupted
from ami2zammad.sandbox.zammad import LogEntry, ZammadSandbox
from ami2zammad.settings import (
    AgentSettings,
    AsteriskSettings,
    NumberSettings,
    OutboxSettings,
    Settings,
    ZammadSettings,
)

_RECORDINGS: Final = Path(__file__).parent / "recordings"
# Seconds between the beginnings of two calls: they overlap, as in real life.
_STAGGER: Final = 0.5
# After the last recorded event the bridge has this many seconds until the log must be complete.
_PATIENCE: Final = 10.0
_TABLE_WIDTH: Final = 130

_EMMA: Final = "Emma Taylor"
_CHRISTOPHER: Final = "Christopher Miller"
_ZOE: Final = "Zoë Müller"
_CUSTOMER: Final = "4917699999999"


@dataclass(frozen=True, slots=True)
class _Row:
    """What an agent should see of one entry in Zammad's caller log."""

    direction: str
    from_: str
    to: str
    who: str
    queue: str
    answered: bool
    cause: str


def _in(to: str, who: str, cause: str, *, queue: str = "", answered: bool = True, from_: str = _CUSTOMER) -> _Row:
    return _Row("in", from_, to, who, queue, answered, cause)


def _out(to: str, who: str, cause: str) -> _Row:
    return _Row("out", "4930600100", to, who, "", answered=True, cause=cause)


# Each recording (of a real Asterisk 22, made by tests/e2e/record.py) and the rows that it must leave.
_CALLS: Final[dict[str, tuple[_Row, ...]]] = {
    "in_queue_then_queue": (
        _in("4930600132", f"{_EMMA}, {_CHRISTOPHER}", "forwarded", queue="support", answered=False),
        _in("4930600132", _ZOE, "normalClearing", queue="sales"),
    ),
    "in_ring_group": (_in("4930600120", _CHRISTOPHER, "normalClearing"),),
    "in_cancel": (_in("4930600100", _EMMA, "cancel", answered=False),),
    "in_attended_transfer": (
        _in("4930600100", _EMMA, "forwarded"),
        _in("101", _CHRISTOPHER, "normalClearing"),
    ),
    "internal_answer": (),
    "out_answer": (_out("492214710334", _EMMA, "normalClearing"),),
    "in_voicemail": (_in("4930600140", "voicemail", "normalClearing"),),
    "in_busy": (_in("4930600100", _EMMA, "busy", answered=False),),
    "in_withheld": (_in("4930600100", _EMMA, "normalClearing", from_="anonymous"),),
    "in_queue_answer": (_in("4930600130", _CHRISTOPHER, "normalClearing", queue="support"),),
    "out_click_to_dial": (_out("492214710334", _EMMA, "normalClearing"),),
}


async def demo(*, speed: float, serve: tuple[str, int] | None = None) -> bool:
    """Play all calls (`speed` 1: as recorded), show the caller log; return whether nothing is missing from it.

    With `serve`, an address and a port, the caller log is a web page there until Ctrl-C. Raises OSError if that address
    cannot be listened on.
    """
    configure_logging(level="info", form="console")
    log = structlog.get_logger()
    host, port = serve or ("127.0.0.1", 0)
    async with ZammadSandbox(host=host, port=port, pages=add_pages) as zammad, PbxSandbox() as pbx:
        if serve:
            _say(f"The caller log, live: {zammad.base_url}/")
        log.info("demo.started", calls=len(_CALLS), zammad=zammad.base_url, pbx=f"127.0.0.1:{pbx.port}")
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(Bridge(_settings(pbx, zammad)).run(stop))
            await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
            await _play(pbx, speed)
            expected = [row for rows in _CALLS.values() for row in rows]
            try:
                await zammad.wait_for(
                    lambda z: len(z.log) >= len(expected) and all(entry.state == "hangup" for entry in z.log),
                    _PATIENCE,
                )
            except TimeoutError:
                log.warning("demo.incomplete", rows=len(zammad.log), expected=len(expected))
            stop.set()
        complete = _report(zammad.log, expected)
        if serve:
            _say(f"The caller log stays at {zammad.base_url}/ until Ctrl-C.")
            await until_interrupted()
        return complete


def _say(text: str) -> None:
    Console().print(text, style="bold", highlight=False)


def _settings(pbx: PbxSandbox, zammad: ZammadSandbox) -> Settings:
    return Settings(
        asterisk=AsteriskSettings(
            port=pbx.port,
            username="ami2zammad",
            secret=SecretStr("sandbox"),
            trunks=("PJSIP/trunk*",),
        ),
        zammad=ZammadSettings(url=SecretStr(zammad.url)),
        outbox=OutboxSettings(path=None),
        numbers=NumberSettings(outbound_prefix="0"),
        agents=(AgentSettings(extension="100", name=_EMMA, number="4930600100"),),
    )


async def _play(pbx: PbxSandbox, speed: float) -> None:
    async with asyncio.TaskGroup() as calls:
        for number, name in enumerate(_CALLS):
            calls.create_task(_call(pbx, name, number * _STAGGER, speed))


async def _call(pbx: PbxSandbox, name: str, delay: float, speed: float) -> None:
    await asyncio.sleep(delay)
    structlog.get_logger().info("demo.call", recording=name)
    await pbx.play(_RECORDINGS / f"{name}.ami", speed=speed, longest_gap=60.0)


def _report(log: Iterable[LogEntry], expected: list[_Row]) -> bool:
    entries = list(log)
    console = Console()
    # A pipe must not cut numbers and names off.
    if not console.is_terminal:
        console.width = max(console.width, _TABLE_WIDTH)
    console.print(_table(entries))
    seen = [_row(entry) for entry in entries]
    missing = list(expected)
    surplus = []
    for row in seen:
        if row in missing:
            missing.remove(row)
        else:
            surplus.append(row)
    for row in missing:
        console.print(f"missing from the caller log: {row}", style="bold red", markup=False)
    for row in surplus:
        console.print(f"not expected in the caller log: {row}", style="bold red", markup=False)
    if not missing and not surplus:
        console.print(f"{len(seen)} entries of {len(_CALLS)} calls, complete and in order.", style="bold green")
    return not missing and not surplus


def _row(entry: LogEntry) -> _Row:
    return _Row(
        entry.direction, entry.from_, entry.to, who(entry), entry.queue, entry.start_at is not None, entry.cause
    )


def _table(entries: Iterable[LogEntry]) -> Table:
    table = Table(title="Caller log, as an agent sees it in Zammad")
    for heading in ("", "from", "to", "who", "queue", "state", "cause"):
        table.add_column(heading)
    for heading in ("waited", "talked"):
        table.add_column(heading, justify="right")
    for entry in entries:
        cells = [entry.direction, entry.from_, entry.to, who(entry), entry.queue, state(entry), entry.cause]
        table.add_row(*cells, _seconds(entry.waiting), _seconds(entry.talking))
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
