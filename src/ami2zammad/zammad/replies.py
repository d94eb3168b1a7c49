"""What a reply means: for the event, for the endpoint, and for the call.

Zammad's texts change from release to release, so the status decides first; a text is only matched, loosely,
where one status means several things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final, assert_never

from ami2zammad.calls.decisions import Decision, Dial, Nothing, Reject
from ami2zammad.calls.events import Answer, CallEvent, Direction, Hangup, NewCall


class Trouble(Enum):
    """Why a request got no reply."""

    UNRESOLVED = auto()
    REFUSED = auto()
    UNCONNECTED = auto()
    """No connection in time."""
    SILENT = auto()
    """Connected, but no (whole) reply in time."""
    CERTIFICATE = auto()
    NOT_TLS = auto()
    """The other side speaks something else than TLS."""
    TLS = auto()
    LOST = auto()
    """The connection ended before the reply did."""
    GIBBERISH = auto()
    """The reply is no HTTP."""
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that got no reply. `detail` is a few words of our own or of OpenSSL, never a URL."""

    trouble: Trouble
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to a request: `text` is its first 64 KiB. Whatever came from outside stays out of the repr."""

    status: int
    content_type: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    location: str = field(default="", repr=False)
    retry_after: float | None = None
    """Seconds from now, as the server wished."""

    @property
    def is_html(self) -> bool:
        """Whether a page for people came back."""
        start = self.text[:200].lstrip("\ufeff \t\r\n").lower()
        return start.startswith(("<!doctype html", "<html")) or (
            "html" in self.content_type.lower() and start.startswith("<")
        )

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the other side sends
        """The decoded body, or None if it is no JSON."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def error(self) -> str:
        """What Zammad says went wrong; the body if that is not in its usual place."""
        body = self.json
        if isinstance(body, dict) and isinstance(body.get("error"), str):
            return str(body["error"])
        if self.is_html:
            # Shortened only after the secrets were taken out: half a token is one too.
            title = re.search(r"<title>([^<]+)", self.text, re.IGNORECASE)
            return f"a web page ({title[1].strip()})" if title else "a web page"
        return self.text


Outcome = Answered | Unanswered


class Verdict(Enum):
    """What to do next about an event."""

    DELIVERED = auto()
    REFUSED = auto()
    """This event is wrong, others may be right."""
    INNER_FAULT = auto()
    """Zammad failed on this event (500): try it again, others may go through meanwhile."""
    OUTAGE = auto()
    """Zammad is not to be reached or overloaded: nothing goes through for now."""
    MISCONFIGURED = auto()
    """Nothing will go through until somebody changes a setting."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an outcome means. `reason` and `remedy` are texts for people, not yet freed of secrets."""

    verdict: Verdict
    status: int = 0
    """0: no reply at all."""
    reason: str = ""
    remedy: str = ""
    retry_after: float | None = None
    reply: Decision = field(default_factory=Nothing)
    ignored: str = ""
    """A part of the reply that asks for something we do not understand."""
    duplicate: bool = False
    """Zammad had this newCall already."""
    from_zammad: bool = False
    """The reply was made by Zammad itself, so it can be reached and lets us in."""


_WHERE = "Admin > System > Integrations > CTI (generic)"
_FEATURE_OFF = re.compile(
    r"(feature|integration)\b.*\b(disabled|not\s+(configured|enabled|activated))", re.IGNORECASE | re.DOTALL
)
_EXISTS = re.compile(r"already\s+exist", re.IGNORECASE)
_PLAIN_HTTP = re.compile(r"plain\s+HTTP", re.IGNORECASE)
_LONGEST_VALUE = 100
"""Characters of a number or reason that we take from a reply."""

_CONFIGURATION_STATUS = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426})
"""4xx that speak of the address or the rights and not of the event."""
_PASSING_STATUS = frozenset({408, 425, 429})
"""4xx that go away by waiting."""


def judge(event: CallEvent, outcome: Outcome) -> Judgement:
    """Return what `outcome` means for `event`."""
    match outcome:
        case Unanswered():
            return _judge_trouble(outcome)
        case Answered():
            return _judge_answer(event, outcome)


def _judge_answer(event: CallEvent, outcome: Answered) -> Judgement:
    status = outcome.status
    if 200 <= status < 300:  # noqa: PLR2004 - the class of a status is its first digit
        return _judge_success(event, outcome)
    if status in {500, 422} and isinstance(event, NewCall) and _EXISTS.search(outcome.error):
        return Judgement(Verdict.DELIVERED, status, duplicate=True, from_zammad=True)
    fault = _configuration_fault(outcome)
    if fault:
        return fault
    by_zammad = isinstance(outcome.json, dict)
    if status == 500:  # noqa: PLR2004 - Zammad's status for any inner fault
        reason = f"Zammad failed inside (500): {outcome.error}"
        remedy = "Look for the Error ID in Zammad's log/production.log."
        return Judgement(Verdict.INNER_FAULT, status, reason, remedy, from_zammad=by_zammad)
    if status >= 500 or status in _PASSING_STATUS:  # noqa: PLR2004 - as above
        reason = f"Zammad or a proxy in front of it answers {status}: {outcome.error}"
        remedy = (
            "Too many requests: raise the limit of the proxy in front of Zammad for this address."
            if status == 429  # noqa: PLR2004 - Too Many Requests
            else "Zammad is down or restarting: look at its services and at the log of the web server in front of it."
        )
        return Judgement(Verdict.OUTAGE, status, reason, remedy, outcome.retry_after)
    reason = f"Zammad refused the event ({status}): {outcome.error}"
    return Judgement(Verdict.REFUSED, status, reason, from_zammad=by_zammad)


def judge_check(outcome: Outcome) -> Judgement:
    """Return what `outcome` of a request with a deliberately wrong direction says about the endpoint.

    DELIVERED means: address, token and configuration are right. Zammad answers 422 "Invalid 'direction'!"
    then and stores nothing.
    """
    probe = NewCall(at=0.0, call_id="", direction=Direction.IN, from_number="", to_number="")
    judgement = judge(probe, outcome)
    if judgement.verdict is Verdict.REFUSED and judgement.status == 422 and judgement.from_zammad:  # noqa: PLR2004
        return Judgement(Verdict.DELIVERED, judgement.status, from_zammad=True)
    if judgement.verdict is Verdict.DELIVERED:
        return Judgement(
            Verdict.MISCONFIGURED,
            judgement.status,
            "Something answers there, but it is not Zammad's CTI endpoint: it takes a call without a valid direction.",
            f"Copy the URL for zammad.url from Zammad, {_WHERE}.",
        )
    if judgement.verdict is Verdict.REFUSED:
        return Judgement(
            Verdict.MISCONFIGURED,
            judgement.status,
            judgement.reason,
            f"What answers there is not Zammad's CTI endpoint: copy the URL for zammad.url from Zammad, {_WHERE}.",
        )
    return judgement


def _judge_success(event: CallEvent, answer: Answered) -> Judgement:
    body = answer.json
    if body is None and answer.is_html:
        return Judgement(
            Verdict.MISCONFIGURED,
            answer.status,
            "zammad.url does not lead to the CTI endpoint: a web page came back.",
            f"Copy the URL from Zammad, {_WHERE}. It contains /api/v1/cti/ and must reach Zammad's server "
            "itself, not a start page or a log-in page of a proxy.",
        )
    reply, ignored = _read_reply(event, body)
    return Judgement(Verdict.DELIVERED, answer.status, reply=reply, ignored=ignored, from_zammad=True)


def _read_reply(event: CallEvent, body: object) -> tuple[Decision, str]:
    """Return what to do, and what of `body` was not understood. Only a newCall can ask for something."""
    if not isinstance(body, dict) or "action" not in body:
        return Nothing(), ""
    match event:
        case NewCall(direction=Direction.IN) if body["action"] == "reject":
            return Reject(_value(body.get("reason")) or "busy"), ""
        case NewCall(direction=Direction.OUT) if body["action"] == "dial":
            # The documentation has both spellings.
            caller_id = _value(body.get("caller_id")) or _value(body.get("callerId"))
            number = _value(body.get("number"))
            if caller_id and number:
                return Dial(caller_id, number), ""
        case NewCall() | Answer() | Hangup():
            pass
        case never:
            assert_never(never)
    return Nothing(), repr(body)


def _value(raw: object) -> str:
    """Return `raw` if it can be a number or a word, else an empty text: it may end up in an AMI action."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int)):
        return ""
    text = str(raw).strip()
    return text if text.isprintable() and len(text) <= _LONGEST_VALUE else ""


def _configuration_fault(answer: Answered) -> Judgement | None:
    status = answer.status
    reason = f"Zammad answers {status}: {answer.error}"
    if 300 <= status < 400:  # noqa: PLR2004 - redirects
        where = f" to {answer.location}" if answer.location else ""
        reason = (
            f"zammad.url is redirected{where} ({status}). Redirects are not followed: they would lose the call's data."
        )
        remedy = (
            "Set zammad.url to the address that it leads to, with your token at its end."
            if "/api/" in answer.location
            else f"Copy the URL from Zammad, {_WHERE}, and see that no proxy asks for a log-in on this path."
        )
    elif status == 422 and _FEATURE_OFF.search(answer.error[:1000]):  # noqa: PLR2004 - two meanings, told apart by text
        remedy = f"Switch the integration on and fill in its settings in Zammad, {_WHERE}."
    elif status == 400 and _PLAIN_HTTP.search(answer.text):  # noqa: PLR2004 - nginx's and Apache's way to say it
        reason = "zammad.url begins with http://, but that port expects https://."
        remedy = "Write https:// in zammad.url."
    elif status == 401:  # noqa: PLR2004 - Unauthorized
        remedy = f"The token in zammad.url is not the one of this Zammad: copy the URL again from Zammad, {_WHERE}."
    elif status in {403, 407}:
        remedy = (
            "A proxy or firewall in front of Zammad does not let this computer through: allow it to POST to the path "
            "of zammad.url."
        )
    elif status == 415:  # noqa: PLR2004 - Unsupported Media Type
        remedy = 'Set zammad.format to the other one of "json" and "form".'
    elif status in _CONFIGURATION_STATUS:
        remedy = (
            f"There is no CTI endpoint at this address: copy the URL for zammad.url from Zammad, {_WHERE}. If Zammad "
            "lives under a sub-path or another host name, that must be in the URL too."
        )
    else:
        return None
    return Judgement(Verdict.MISCONFIGURED, status, reason, remedy)


_TROUBLES: Final[Mapping[Trouble, tuple[Verdict, str, str]]] = MappingProxyType(
    {
        Trouble.CERTIFICATE: (
            Verdict.MISCONFIGURED,
            "Zammad's TLS certificate is not trusted",
            (
                "If the certificate comes from your own authority, name that authority's certificate (PEM) in "
                "zammad.ca_file; if it has run out or is for another host name, renew it or correct zammad.url."
            ),
        ),
        Trouble.NOT_TLS: (
            Verdict.MISCONFIGURED,
            "zammad.url begins with https://, but what answers there does not speak TLS",
            "Correct the port, or write http:// if Zammad is meant to be reached without TLS.",
        ),
        Trouble.UNRESOLVED: (
            Verdict.OUTAGE,
            "The host name in zammad.url cannot be resolved",
            "Look for a typing error in zammad.url, and at this computer's DNS settings.",
        ),
        Trouble.REFUSED: (
            Verdict.OUTAGE,
            "Nothing listens at the host and port of zammad.url",
            "See that Zammad's web server runs, and that host and port in zammad.url are right.",
        ),
        Trouble.UNCONNECTED: (
            Verdict.OUTAGE,
            "No connection to the host of zammad.url",
            "See that the host is up and that no firewall in between drops connections to this port.",
        ),
        Trouble.SILENT: (
            Verdict.OUTAGE,
            "Zammad did not reply in time",
            "Zammad is overloaded or stuck: look at its services, or raise zammad.timeout.",
        ),
        Trouble.LOST: (
            Verdict.OUTAGE,
            "The connection to Zammad broke before the reply was complete",
            "Zammad or the proxy in front of it was restarted or failed: look at their logs.",
        ),
        Trouble.TLS: (
            Verdict.OUTAGE,
            "The TLS connection to Zammad failed",
            "See which TLS versions the web server in front of Zammad offers: 1.2 or later is needed.",
        ),
        Trouble.GIBBERISH: (
            Verdict.OUTAGE,
            "What answers at the host and port of zammad.url does not speak HTTP",
            "Correct host and port in zammad.url; a server that only speaks TLS needs https://.",
        ),
        Trouble.OTHER: (
            Verdict.OUTAGE,
            "The request to Zammad failed",
            "See that the host in zammad.url can be reached from this computer.",
        ),
    }
)


def _judge_trouble(outcome: Unanswered) -> Judgement:
    verdict, reason, remedy = _TROUBLES[outcome.trouble]
    detail = f": {outcome.detail}." if outcome.detail else "."
    return Judgement(verdict, 0, f"{reason}{detail}", remedy)
