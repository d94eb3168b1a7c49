"""What /status.json says, and what it keeps to itself."""

from __future__ import annotations

import json
from dataclasses import replace

from ami2zammad.ops.activity import Activity
from ami2zammad.ops.report import MOST_CALLS, Report, Reporter
from ami2zammad.ops.state import BridgeState, Problem
from tests.unit.ops.samples import HOSTILE, ILL, NOW, RINGING, WELL, Bridge, busy_activity


def report_of(state: BridgeState) -> Report:
    bridge = Bridge(state)
    activity = busy_activity(bridge)
    return Reporter(bridge.look, activity, wall=bridge.wall, clean=str).report()


def test_a_bridge_that_works() -> None:
    report = report_of(WELL)
    assert (report["ready"], report["faults"], report["instance"]) == (True, [], "pbx1")
    assert (report["time"], report["started"]) == ("2026-11-27T23:50:29.500Z", "2026-11-27T22:43:49.500Z")
    assert report["uptime_seconds"] == 4000
    assert report["asterisk"] == {
        "connected": True,
        "address": "192.0.2.17:5038",
        "since": "2026-11-27T22:45:29.500Z",
        "seconds": 3900,
        "problem": "",
        "remedy": "",
        "signals": 1_234_567,
        "waiting": 2,
        "reconnects": 3,
    }
    assert (report["zammad"]["reachable"], report["zammad"]["seconds"]) == (True, 12)
    assert report["live_calls"] == 3
    assert report["calls"][1] == {
        "call_id": "pbx1-1795294371.98",
        "direction": "in",
        "from": "4917699999•••",
        "to": "4930600•••",
        "users": ["Emma Taylor", "Zoë Müller"],
        "more_users": 0,
        "queue": "support",
        "state": "ringing",
        "since": "2026-11-27T23:50:22.500Z",
        "seconds": 7,
    }


def test_calls_come_the_latest_first_and_before_them_those_that_arrive() -> None:
    assert [call["state"] for call in report_of(WELL)["calls"]] == ["arriving", "ringing", "answered"]


def test_failures_and_deliveries_come_the_latest_first() -> None:
    report = report_of(WELL)
    assert [(failure["times"], failure["refused"], failure["seconds"]) for failure in report["failures"]] == [
        (2, False, 90),
        (1, True, 90),
    ]
    assert [delivery["kind"] for delivery in report["deliveries"]] == ["hangup", "answer", "newCall"]


def test_a_bridge_in_trouble_says_what_to_do() -> None:
    report = report_of(ILL)
    assert not report["ready"]
    assert report["faults"][1] == {
        "part": "zammad",
        "problem": "Zammad does not know the token (401)",
        "remedy": "Copy zammad.url again.",
    }
    assert report["asterisk"]["since"] is None
    assert report["outbox"]["oldest_seconds"] == 754.2


def test_without_details_only_the_part_is_named() -> None:
    bridge = Bridge(ILL)
    reporter = Reporter(bridge.look, Activity(bridge.clock), wall=bridge.wall, clean=str)
    assert reporter.readiness(detailed=False) == {
        "ready": False,
        "faults": [{"part": "asterisk"}, {"part": "zammad"}, {"part": "outbox"}],
    }


def test_no_whole_number_gets_out() -> None:
    text = json.dumps(report_of(WELL))
    for call in WELL.calls:
        for number in (call.from_number, call.to_number):
            assert len(number) < 6 or not number.isdigit() or number not in text


def test_secrets_are_taken_out_wherever_they_are() -> None:
    secret = "c0rrect-h0rse"
    problem = Problem(f"refused {secret}", f"change {secret}")
    state = replace(
        WELL,
        instance=secret,
        asterisk=replace(WELL.asterisk, address=secret, problem=problem),
        zammad=replace(WELL.zammad, address=f"https://{secret}", problem=problem),
        outbox=replace(WELL.outbox, problem=problem),
        calls=(replace(RINGING, call_id=secret, from_number=secret, to_number=secret, users=(secret,), queue=secret),),
    )
    bridge = Bridge(state)
    activity = Activity(bridge.clock)
    activity.attempt_failed(secret, "newCall", f"no {secret}")
    activity.delivered(secret, "newCall", 1)
    reporter = Reporter(bridge.look, activity, wall=bridge.wall, clean=lambda text: text.replace(secret, "[secret]"))
    text = json.dumps([reporter.report(), reporter.readiness(detailed=True)])
    assert secret not in text
    assert text.count("[secret]") > 12


def test_a_report_is_bounded_whatever_comes() -> None:
    many = replace(HOSTILE, calls=tuple(replace(HOSTILE.calls[0], since=NOW - n) for n in range(5000)))
    report = report_of(many)
    assert report["live_calls"] == 5000
    assert [call["seconds"] for call in report["calls"]] == list(range(MOST_CALLS))
    assert (len(report["calls"][0]["users"]), report["calls"][0]["more_users"]) == (5, 2)
    assert len(json.dumps(report["calls"][0])) < 5000
