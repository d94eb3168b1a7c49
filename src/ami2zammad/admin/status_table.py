"""What `status` prints: the status page, for a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ami2zammad.ops.words import duration, latency
from ami2zammad.settings import Settings

from .status import NoStatusError, Report, report_of, sentence

_EVERY: Final = 2.0
"""Seconds between two looks."""
_WIDTH: Final = 120
_FAILURES_SHOWN: Final = 5
_STAGES: Final = {"arriving": "arriving", "ringing": "ringing", "answered": "in call"}
_KINDS: Final = {"newCall": "new call"}


def status(settings: Settings, *, as_json: bool, watch: bool, output: TextIO | None = None) -> bool:
    """Print how the bridge is, with `watch` again and again until Ctrl-C; return whether it does its work.

    Raises `NoStatusError`, but with `watch` only if it cannot be asked from the beginning.
    """
    file = output or sys.stdout
    console = Console(file=file)
    if not console.is_terminal:
        # A pipe must not cut numbers and names off.
        console.width = max(console.width, _WIDTH)
    first = report_of(settings)
    ready = bool(first["ready"])
    with contextlib.suppress(KeyboardInterrupt):
        if watch and console.is_terminal and not as_json:
            with Live(console=console, auto_refresh=False, screen=True) as live:
                for report in _again(settings, first):
                    ready = _is_ready(report)
                    live.update(_shown(report), refresh=True)
        else:
            for report in _again(settings, first) if watch else [first]:
                ready = _is_ready(report)
                _print(report, console, as_json=as_json)
    return ready


def _is_ready(report: Report | NoStatusError) -> bool:
    return not isinstance(report, NoStatusError) and bool(report["ready"])


def _again(settings: Settings, first: Report) -> Iterator[Report | NoStatusError]:
    yield first
    while True:
        time.sleep(_EVERY)
        try:
            yield report_of(settings)
        except NoStatusError as error:
            yield error


def _print(report: Report | NoStatusError, console: Console, *, as_json: bool) -> None:
    if as_json:
        told = {"error": str(report)} if isinstance(report, NoStatusError) else report
        console.file.write(json.dumps(told, ensure_ascii=False) + "\n")
        console.file.flush()
    else:
        console.print(_shown(report))


def _shown(report: Report | NoStatusError) -> RenderableType:
    if isinstance(report, NoStatusError):
        return Text(str(report), style="bold red")
    name = f"ami2zammad {report['version']}" + (f" ({report['instance']})" if report["instance"] else "")
    running = f", running for {duration(report['uptime_seconds'])}"
    parts: list[RenderableType] = [
        Text.assemble(
            (name, "bold"), running, ": ", ("all is well", "green") if report["ready"] else ("not working", "bold red")
        )
    ]
    parts += [Text(sentence(fault), style="red") for fault in report["faults"]]
    parts += [Text(""), _connections(report), Text("")]
    parts.append(_calls(report) if report["calls"] else Text("Nobody is calling.", style="dim"))
    if report["failures"]:
        parts += [Text(""), _failures(report["failures"][:_FAILURES_SHOWN])]
    if report["deliveries"]:
        latest = report["deliveries"][0]
        told = f"Latest delivery: {_kind(latest)} {latest['call_id']}, {duration(latest['seconds'])} ago"
        parts += [Text(""), Text(f"{told}, took {latency(latest['latency_seconds'])}")]
    return Group(*parts)


def _connections(report: Report) -> Table:
    asterisk, zammad, outbox = report["asterisk"], report["zammad"], report["outbox"]
    table = Table.grid(padding=(0, 2))
    up = f"connected for {duration(asterisk['seconds'])}" if asterisk["connected"] else "not connected"
    _connection(table, "Asterisk", asterisk["connected"], up, asterisk["address"])
    last = zammad["seconds"]
    delivered = "no delivery yet" if last is None else f"last delivery {duration(last)} ago"
    reachable = "reachable" if zammad["reachable"] else "nothing goes through"
    _connection(table, "Zammad", zammad["reachable"], f"{reachable}, {delivered}", zammad["address"])
    waiting = f"{outbox['waiting']:,} waiting"
    if outbox["oldest_seconds"] is not None:
        waiting += f", the oldest for {duration(outbox['oldest_seconds'])}"
    if outbox["dead_letters"]:
        waiting += f", {outbox['dead_letters']:,} set aside"
    kept = "on disk" if outbox["durable"] else "in memory only"
    _connection(table, "Outbox", not outbox["problem"], waiting, kept)
    return table


def _connection(table: Table, name: str, fine: bool, told: str, where: str) -> None:  # noqa: FBT001
    table.add_row(
        Text("✓", style="green") if fine else Text("✗", style="bold red"), name, Text(told), Text(where, style="dim")
    )


def _calls(report: Report) -> Table:
    count, listed = report["live_calls"], len(report["calls"])
    title = f"{count:,} live {'call' if count == 1 else 'calls'}" + (
        "" if count == listed else f", the latest {listed}"
    )
    table = _table(title, "", "from", "to", "who", "queue", "state", "for", "call")
    for call in report["calls"]:
        users = ", ".join(call["users"]) + (f" and {call['more_users']} more" if call["more_users"] else "")
        since = "" if call["seconds"] is None else duration(call["seconds"])
        stage = _STAGES.get(call["state"], call["state"])
        _add(table, call["direction"], call["from"], call["to"], users, call["queue"], stage, since, call["call_id"])
    return table


def _failures(failures: Iterable[Report]) -> Table:
    table = _table("Latest failures", "when", "event", "reason", "then", "times", "call")
    for failure in failures:
        when = f"{duration(failure['seconds'])} ago"
        then = "given up" if failure["refused"] else "tried again"
        _add(table, when, _kind(failure), failure["reason"], then, str(failure["times"]), failure["call_id"])
    return table


def _kind(of: Report) -> str:
    return _KINDS.get(of["kind"], str(of["kind"]))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    # As Text: what stands in brackets is not rich's markup but somebody's name.
    table.add_row(*(Text(cell) for cell in cells))
