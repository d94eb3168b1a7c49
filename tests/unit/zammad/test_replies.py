"""Every row of the table of replies, and what comes back when it is not Zammad that answers."""

from __future__ import annotations

import pytest

from ami2zammad.calls.decisions import Decision, Dial, Nothing, Reject
from ami2zammad.calls.events import CallEvent, Direction
from ami2zammad.zammad.replies import Answered, Outcome, Trouble, Unanswered, Verdict, judge, judge_check
from tests.unit.zammad.samples import EXISTS, GATEWAY, INNER, OK, UNAUTHORIZED, answer, hangup, new_call, reply

DISABLED = reply(422, {"error": "Feature is disabled, the admin can enable it."})
UNCONFIGURED = reply(422, {"error": "Feature not configured, tell the admin."})
WRONG_DIRECTION = reply(422, {"error": "Invalid 'direction'!"})
WEB_APP = reply(200, "<!DOCTYPE html>\n<html><head><title>Zammad Helpdesk</title></head></html>")
OUT = new_call(direction=Direction.OUT)
DIAL = {"action": "dial", "caller_id": "496990009111", "number": "492214710334"}


@pytest.mark.parametrize(
    ("event", "body", "expected"),
    [
        (new_call(), {}, Nothing()),
        (new_call(), {"action": "reject", "reason": "busy"}, Reject("busy")),
        (new_call(), {"action": "reject"}, Reject("busy")),
        (OUT, DIAL, Dial("496990009111", "492214710334")),
        (
            OUT,
            {"action": "dial", "callerId": 496990009111, "number": 492214710334},
            Dial("496990009111", "492214710334"),
        ),
        (new_call(), [], Nothing()),
        (new_call(), "null", Nothing()),
        (new_call(), "", Nothing()),
        (new_call(), "thank you", Nothing()),
        (new_call(), "[" * 60_000, Nothing()),
        (new_call(), "9" * 60_000, Nothing()),
    ],
)
def test_success(event: CallEvent, body: object, expected: Decision) -> None:
    judgement = judge(event, reply(200, body))
    assert judgement.verdict is Verdict.DELIVERED
    assert judgement.reply == expected
    assert not judgement.ignored


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (OUT, DIAL | {"caller_id": ["1"]}),
        (OUT, DIAL | {"caller_id": True}),
        (OUT, DIAL | {"caller_id": None}),
        (OUT, DIAL | {"number": {"a": 1}}),
        (OUT, DIAL | {"number": "1\r\nAction: Originate"}),
        (OUT, DIAL | {"number": "1" * 101}),
        (OUT, {"action": "reject", "reason": "busy"}),
        (new_call(), DIAL),
        (new_call(), {"action": "dance"}),
        (new_call(), {"action": None}),
        (answer(), {"action": "reject", "reason": "busy"}),
        (hangup(), DIAL),
    ],
)
def test_what_makes_no_sense_is_delivered_but_not_obeyed(event: CallEvent, body: object) -> None:
    judgement = judge(event, reply(200, body))
    assert judgement.verdict is Verdict.DELIVERED
    assert judgement.reply == Nothing()
    assert judgement.ignored


@pytest.mark.parametrize("status", [500, 422])
@pytest.mark.parametrize("text", ["This object already exists.", "Object already exists!"])
def test_a_new_call_that_zammad_has_is_delivered(status: int, text: str) -> None:
    judgement = judge(new_call(), reply(status, {"error": text}))
    assert judgement.verdict is Verdict.DELIVERED
    assert judgement.duplicate


@pytest.mark.parametrize(
    ("outcome", "verdict", "words"),
    [
        (UNAUTHORIZED, Verdict.MISCONFIGURED, "The token in zammad.url is not the one"),
        (DISABLED, Verdict.MISCONFIGURED, "Switch the integration on"),
        (UNCONFIGURED, Verdict.MISCONFIGURED, "fill in its settings"),
        (reply(403), Verdict.MISCONFIGURED, "proxy or firewall"),
        (reply(404, "<html><title>404</title></html>"), Verdict.MISCONFIGURED, "no CTI endpoint at this address"),
        (reply(405), Verdict.MISCONFIGURED, "no CTI endpoint at this address"),
        (reply(415), Verdict.MISCONFIGURED, "zammad.format"),
        (reply(301, location="https://z/api/v1/cti/***"), Verdict.MISCONFIGURED, "Set zammad.url to the address"),
        (reply(302, location="https://z/login"), Verdict.MISCONFIGURED, "no proxy asks for a log-in"),
        (
            reply(400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"),
            Verdict.MISCONFIGURED,
            "Write https://",
        ),
        (WEB_APP, Verdict.MISCONFIGURED, "/api/v1/cti/"),
        (Unanswered(Trouble.CERTIFICATE, "self-signed certificate"), Verdict.MISCONFIGURED, "zammad.ca_file"),
        (Unanswered(Trouble.NOT_TLS), Verdict.MISCONFIGURED, "http://"),
        (WRONG_DIRECTION, Verdict.REFUSED, ""),
        (reply(422, {"error": "Attribute 'from' required!"}), Verdict.REFUSED, ""),
        (reply(422, {"error": "Error ID 1: Please contact your administrator."}), Verdict.REFUSED, ""),
        (reply(400), Verdict.REFUSED, ""),
        (reply(413, "<html>"), Verdict.REFUSED, ""),
        (INNER, Verdict.INNER_FAULT, "production.log"),
        (reply(500, "<html>"), Verdict.INNER_FAULT, "production.log"),
        (GATEWAY, Verdict.OUTAGE, "down or restarting"),
        (reply(503), Verdict.OUTAGE, "down or restarting"),
        (reply(504), Verdict.OUTAGE, "down or restarting"),
        (reply(429), Verdict.OUTAGE, "raise the limit"),
        (reply(408), Verdict.OUTAGE, ""),
        *((Unanswered(t), Verdict.OUTAGE, "") for t in set(Trouble) - {Trouble.CERTIFICATE, Trouble.NOT_TLS}),
    ],
)
def test_failures(outcome: Outcome, verdict: Verdict, words: str) -> None:
    for event in (new_call(), answer(), hangup()):
        judgement = judge(event, outcome)
        assert judgement.verdict is verdict
        assert judgement.reason
        assert words in judgement.remedy


def test_a_duplicate_is_only_meant_for_a_new_call() -> None:
    assert judge(answer(), EXISTS).verdict is Verdict.INNER_FAULT


def test_the_check_reads_the_refusal_of_a_wrong_direction_as_success() -> None:
    assert judge_check(WRONG_DIRECTION).verdict is Verdict.DELIVERED
    assert judge_check(reply(422, {"error": "Invalid direction!"})).verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    "outcome",
    [
        OK,
        WEB_APP,
        DISABLED,
        UNCONFIGURED,
        UNAUTHORIZED,
        INNER,
        GATEWAY,
        EXISTS,
        reply(422, "<html></html>"),
        reply(400),
        Unanswered(Trouble.UNRESOLVED),
    ],
)
def test_the_check_reads_everything_else_as_a_problem_with_a_remedy(outcome: Outcome) -> None:
    judgement = judge_check(outcome)
    assert judgement.verdict is not Verdict.DELIVERED
    assert judgement.reason
    assert judgement.remedy


def test_a_hostile_page_takes_no_time_to_read() -> None:
    judge(new_call(), Answered(422, "text/html", "feature " * 8000))
    judge(new_call(), Answered(422, "text/html", "<html>" + "<title " * 9000))


def test_nothing_foreign_in_the_repr() -> None:
    assert "secret" not in repr(Answered(200, "secret", "secret", "secret"))
