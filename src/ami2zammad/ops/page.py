"""The status page: what a report says, for people. web/status.js makes the same of the same report in the browser."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from .html import Content, Frame, Markup, bundled, element, foreign_text, joined, table
from .report import Report
from .words import duration, latency

_NOTHING: Final = "\N{EN DASH}"
_REFRESH: Final = 5
"""Seconds; the script does so more often."""
_STAGES: Final = {"arriving": "arriving", "ringing": "ringing", "answered": "in call"}
_STAGE_LOOKS: Final = {"arriving": "badge", "ringing": "badge busy", "answered": "badge good"}
_KINDS: Final = {"newCall": "new call", "answer": "answer", "hangup": "hangup"}
_PARTS: Final = {"bridge": "The bridge", "asterisk": "Asterisk", "zammad": "Zammad", "outbox": "The outbox"}


def status_frame() -> Frame:
    """Return what is the same each time."""
    return Frame(
        title="ami2zammad",
        style=bundled(__package__, "style.css"),
        script=bundled(__package__, "live.js", "status.js"),
        refresh=_REFRESH,
    )


def status_body(report: Report) -> Markup:
    """Return what changes from report to report."""
    return joined((_top(report), _main(report), _footer(report)))


def _top(report: Report) -> Markup:
    ready = report["ready"]
    instance = report["instance"]
    return element(
        "header",
        {"class": "top"},
        element(
            "div",
            {"class": "brand"},
            element("h1", None, "ami2zammad"),
            element("span", {"class": "quiet"}, foreign_text(instance)) if instance else None,
        ),
        element(
            "p",
            {"class": "badge good" if ready else "badge bad", "role": "status"},
            "All is well" if ready else f"Not working: {', '.join(_part(fault['part']) for fault in report['faults'])}",
        ),
    )


def _part(part: str) -> str:
    return part if part in {"bridge", "outbox"} else part.capitalize()


def _main(report: Report) -> Markup:
    return element(
        "main",
        None,
        element("h2", {"class": "unseen"}, "Connections"),
        *(_fault(fault) for fault in report["faults"]),
        element("div", {"class": "cards"}, _asterisk(report), _zammad(report), _outbox(report)),
        _calls(report),
        _failures(report),
        _deliveries(report),
    )


def _fault(fault: Report) -> Markup:
    return element(
        "div",
        {"class": "fault"},
        element("h3", None, _PARTS[fault["part"]]),
        element("p", None, foreign_text(fault["problem"])),
        element("p", {"class": "remedy"}, foreign_text(fault["remedy"])) if fault["remedy"] else None,
    )


def _card(heading: str, subline: Content, badge: tuple[str, str], facts: list[tuple[str, Content]]) -> Markup:
    pairs = [part for name, value in facts for part in (element("dt", None, name), element("dd", None, value))]
    return element(
        "article",
        {"class": "panel"},
        element(
            "div",
            {"class": "card-head"},
            element("h3", None, heading),
            element("span", {"class": f"badge {badge[0]}"}, badge[1]),
        ),
        element("p", {"class": "address"}, subline),
        element("dl", None, *pairs),
    )


def _asterisk(report: Report) -> Markup:
    asterisk = report["asterisk"]
    return _card(
        "Asterisk",
        foreign_text(asterisk["address"]),
        ("good", "connected") if asterisk["connected"] else ("bad", "not connected"),
        [
            ("Connected for", duration(asterisk["seconds"]) if asterisk["connected"] else _NOTHING),
            ("Events", f"{asterisk['signals']:,}"),
            ("Reconnects", f"{asterisk['reconnects']:,}"),
        ],
    )


def _zammad(report: Report) -> Markup:
    zammad = report["zammad"]
    last = zammad["seconds"]
    return _card(
        "Zammad",
        foreign_text(zammad["address"]),
        ("good", "reachable") if zammad["reachable"] else ("bad", "nothing goes through"),
        [
            ("Last delivery", "none yet" if last is None else f"{duration(last)} ago"),
        ],
    )


def _outbox(report: Report) -> Markup:
    outbox = report["outbox"]
    waiting, oldest = outbox["waiting"], outbox["oldest_seconds"]
    if outbox["problem"]:
        badge = "bad", "in trouble"
    else:
        badge = ("busy", f"{waiting:,} waiting") if waiting else ("good", "empty")
    return _card(
        "Outbox",
        "Kept on disk" if outbox["durable"] else "Kept in memory only",
        badge,
        [
            ("Waiting", f"{waiting:,}"),
            ("Oldest", _NOTHING if oldest is None else duration(oldest)),
            ("Set aside", _set_aside(outbox["dead_letters"])),
        ],
    )


def _set_aside(count: int) -> Content:
    return element("span", {"class": "badge busy"}, f"{count:,}") if count else "0"


def _section(
    heading: str, count: str, empty: str, headings: list[str], rows: list[list[Content]], *, lean: bool = False
) -> Markup:
    title = element("h2", None, f"{heading} ", element("span", {"class": "count"}, count) if count else None)
    content = table(heading, headings, rows, lean=lean) if rows else element("p", {"class": "quiet"}, empty)
    return element("section", {"class": "panel"}, title, content)


def _calls(report: Report) -> Markup:
    calls = report["calls"]
    rows: list[list[Content]] = [
        [
            element("span", {"class": f"badge plain {call['direction']}"}, call["direction"]),
            _number(call["from"]),
            _number(call["to"]),
            _who(call),
            foreign_text(call["queue"]) if call["queue"] else None,
            element("span", {"class": _STAGE_LOOKS[call["state"]]}, _STAGES[call["state"]]),
            None if call["seconds"] is None else _no_wrap(duration(call["seconds"])),
            _call_id(call),
        ]
        for call in calls
    ]
    count, listed = report["live_calls"], len(calls)
    told = f"{count:,}" if count == listed else f"{count:,}, the latest {listed} of them"
    headings = ["Direction", "From", "To", "Who", "Queue", "State", "For", "Call"]
    return _section("Live calls", told, "Nobody is calling.", headings, rows)


def _no_wrap(text: str) -> Markup:
    return element("span", {"class": "nowrap"}, text)


def _number(number: str) -> Markup:
    return element("span", {"class": "number"}, foreign_text(number))


def _who(call: Report) -> Content:
    parts: list[Content] = []
    for user in call["users"]:
        parts += [", ", foreign_text(user)] if parts else [foreign_text(user)]
    if call["more_users"]:
        parts.append(f" and {call['more_users']} more")
    return element("span", None, *parts) if parts else None


def _call_id(of: Report) -> Markup:
    return element("span", {"class": "mono quiet"}, foreign_text(of["call_id"]))


def _ago(of: Report) -> Markup:
    return element("time", {"datetime": of["time"], "class": "nowrap"}, f"{duration(of['seconds'])} ago")


def _failures(report: Report) -> Markup:
    rows: list[list[Content]] = [
        [
            _ago(failure),
            _KINDS.get(failure["kind"], failure["kind"]),
            element("span", None, foreign_text(failure["reason"])),
            element("span", {"class": "badge bad"}, "given up")
            if failure["refused"]
            else element("span", {"class": "badge busy"}, "tried again"),
            f"{failure['times']:,}",
            _call_id(failure),
        ]
        for failure in report["failures"]
    ]
    headings = ["When", "Event", "Reason", "Then", "Times", "Call"]
    return _section("Latest failures", "", "None since the start.", headings, rows)


def _deliveries(report: Report) -> Markup:
    rows: list[list[Content]] = [
        [
            _ago(delivery),
            _no_wrap(_KINDS.get(delivery["kind"], delivery["kind"])),
            _no_wrap(latency(delivery["latency_seconds"])),
            _call_id(delivery),
        ]
        for delivery in report["deliveries"]
    ]
    headings = ["When", "Event", "Took", "Call"]
    return _section("Latest deliveries", "", "None since the start.", headings, rows, lean=True)


def _footer(report: Report) -> Markup:
    clock = datetime.fromisoformat(report["time"]).strftime("%H:%M:%S")
    return element(
        "footer",
        None,
        element("span", None, f"Version {report['version']}"),
        element("span", None, f"Running for {duration(report['uptime_seconds'])}"),
        element("span", None, f"As of {clock} UTC"),
        element("a", {"href": "status.json"}, "status.json"),
        element("a", {"href": "metrics"}, "metrics"),
    )
