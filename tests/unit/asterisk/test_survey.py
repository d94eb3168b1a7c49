"""How what a PBX says about its endpoints is read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ami2zammad.asterisk.survey import Endpoint, _device, caller_id


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ('"Emma Taylor" <100>', "Emma Taylor", "100"),
        ("Emma Taylor <100>", "Emma Taylor", "100"),
        ('"" <100>', "", "100"),
        ("<100>", "", "100"),
        ("100", "", "100"),
        ("+49 30", "+49 30", ""),
        ("+4930600100", "", "+4930600100"),
        ("Emma Taylor", "Emma Taylor", ""),
        ('"Emma"', "Emma", ""),
        ("<unknown>", "", ""),
        ("", "", ""),
        ('"unknown" <100>', "", "100"),
        # As Asterisk 16 and 22 give names with quotes in them, and one that a semicolon cut short.
        ('"Zoë "Z" Müller" <102>', 'Zoë "Z" Müller', "102"),
        ('"Zoë "Z" O\'Neil, Müller', 'Zoë "Z" O\'Neil, Müller', ""),
        ('"A <b> c" <102>', "A <b> c", "102"),
    ],
)
def test_caller_ids(text: str, name: str, number: str) -> None:
    assert caller_id(text) == (name, number)


@given(st.text())
def test_any_text_is_some_caller_id(text: str) -> None:
    name, number = caller_id(text)
    assert len(name) + len(number) <= len(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("PJSIP/100", Endpoint("PJSIP", "100")),
        ("SIP/my-provider-1", Endpoint("SIP", "my-provider-1")),
        ("Local/100@from-queue/n", None),
        ("Queue:support_pause_PJSIP/100", None),
        ("hint:100@ext-local", None),
        ("MWI:100@default", None),
        ("Custom:night", None),
        ("PJSIP/4930600100@sipgate", None),
        ("DAHDI/i1/4930600100", None),
        ("Message/ast_msg_queue", None),
        ("PJSIP/", None),
        ("", None),
    ],
)
def test_what_is_an_endpoint(text: str, endpoint: Endpoint | None) -> None:
    assert _device(text) == endpoint
