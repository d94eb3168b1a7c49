"""What is sent for each event, and how it is cut to Zammad's columns."""

from __future__ import annotations

import json
import unicodedata
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, strategies as st

from ami2zammad.calls.events import VOICEMAIL, Cause, Direction
from ami2zammad.zammad.payloads import Fields, cut, cut_names, encode, fields_of
from tests.unit.zammad.samples import answer, hangup, new_call

NAMES = st.lists(st.text(max_size=300), max_size=40).map(tuple)


def test_inbound_new_call() -> None:
    assert fields_of(new_call(queue="support", users=("Emma Taylor", "Zoë Müller"))) == {
        "event": "newCall",
        "callId": "1.1",
        "direction": "in",
        "from": "4917699999999",
        "to": "4930600100",
        "user": ["Emma Taylor", "Zoë Müller"],
        "queue": "support",
    }


def test_one_name_is_a_text_and_none_is_no_field() -> None:
    assert fields_of(new_call(users=("Emma Taylor",)))["user"] == "Emma Taylor"
    assert "user" not in fields_of(new_call(users=()))
    assert "user" not in fields_of(new_call(users=("", " ")))
    assert "queue" not in fields_of(new_call())


def test_answer_carries_the_parties_one_name_and_who_took_it() -> None:
    assert fields_of(answer(new_call(queue="support"))) == {
        "event": "answer",
        "callId": "1.1",
        "direction": "in",
        "from": "4917699999999",
        "to": "4930600100",
        "user": "Emma Taylor",
        "answeringNumber": "100",
    }


def test_voicemail_is_passed_on() -> None:
    assert fields_of(answer(user=VOICEMAIL, number=""))["user"] == "voicemail"


def test_outbound_answer_never_has_a_user() -> None:
    fields = fields_of(answer(new_call(direction=Direction.OUT), user="Emma Taylor"))
    assert fields["direction"] == "out"
    assert "user" not in fields


@pytest.mark.parametrize("cause", list(Cause))
def test_hangup(cause: Cause) -> None:
    assert fields_of(hangup(cause=cause)) == {
        "event": "hangup",
        "callId": "1.1",
        "direction": "in",
        "from": "4917699999999",
        "to": "4930600100",
        "cause": cause.value,
        "answeringNumber": "100",
    }


def test_queue_as_to_holds_for_every_event_of_an_inbound_entry_with_a_queue() -> None:
    call = new_call(queue="support")
    for event in (call, answer(call), hangup(call)):
        assert fields_of(event, queue_as_to=True)["to"] == "support"
        assert fields_of(event)["to"] == "4930600100"
    assert fields_of(new_call(), queue_as_to=True)["to"] == "4930600100"
    assert fields_of(new_call(direction=Direction.OUT, queue="q"), queue_as_to=True)["to"] == "4930600100"


def test_no_from_is_anonymous() -> None:
    assert fields_of(new_call(from_number=""))["from"] == "anonymous"


def test_thirty_names_are_cut_by_whole_names_with_the_rest_counted() -> None:
    names = tuple(f"Agent Number {n:02}" for n in range(30))
    kept = cut_names(names)
    assert kept[:-1] == list(names[: len(kept) - 1])
    assert kept[-1] == f"+{30 - len(kept) + 1}"
    assert 230 < len(", ".join(kept)) <= 250


@given(NAMES)
def test_lists_of_names_fit_and_no_name_is_forgotten(names: tuple[str, ...]) -> None:
    kept = cut_names(names)
    assert len(", ".join(kept)) <= 250
    there = [name for name in names if cut(name, 10_000).strip()]
    assert bool(kept) == bool(there)
    if len(kept) < len(there):
        assert kept[-1] == f"+{len(there) - len(kept) + 1}"
    if len(there) > len(kept) > 2:
        assert kept[:-1] == [cut(name, 10_000).strip() for name in there[: len(kept) - 1]]


@given(st.text(max_size=400), st.integers(min_value=1, max_value=300))
def test_a_cut_text_fits_and_shows_that_it_is_cut(text: str, limit: int) -> None:
    result = cut(text, limit)
    assert len(result) <= limit
    result.encode()
    if len(text) > limit:
        assert result.endswith("\N{HORIZONTAL ELLIPSIS}")


@given(st.text(st.sampled_from("ab\u0301\u0308\u200d\ufe0f\U0001f3fd\U0001f469\U0001f4bb"), min_size=40, max_size=80))
def test_no_visible_character_is_torn(text: str) -> None:
    # A letter in front and between keeps the clusters shorter than the limit.
    text = "x".join(text[i : i + 5] for i in range(0, len(text), 5))
    kept = cut(text, 30)[:-1]
    following = text[len(kept)]
    assert not unicodedata.category(following).startswith("M")
    assert following not in {"\u200d", "\U0001f3fd"}
    assert not kept.endswith("\u200d")


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("Zoe\u0308 Mu\u0308ller", 4, "Zo…"),
        ("Zoe\u0308 Mu\u0308ller", 5, "Zoe\u0308…"),
        ("🇩🇪🇫🇷", 2, "🇩…"),  # torn: it is the first character and does not fit
        ("a👩‍💻b", 3, "a…"),
        ("Müller", 6, "Müller"),
    ],
)
def test_cutting(text: str, limit: int, expected: str) -> None:
    assert cut(text, limit) == expected


def test_control_characters_and_lone_surrogates_do_not_get_through() -> None:
    assert cut("Emma\r\n\x00\udcffX", 100) == "Emma   \ufffdX"


@given(st.lists(st.text(min_size=1, max_size=600), unique=True, min_size=2, max_size=20))
def test_call_ids_never_collide(raw: list[str]) -> None:
    stem = "s" * 400
    ids = [str(fields_of(new_call(call_id))["callId"]) for call_id in [*raw, *(stem + r for r in raw)]]
    assert len(set(ids)) == 2 * len(raw)
    assert all(len(call_id) <= 250 for call_id in ids)


def test_usual_call_ids_stay_as_they_are() -> None:
    assert fields_of(new_call("pbx1-1795293988.6-2"))["callId"] == "pbx1-1795293988.6-2"


@given(NAMES, st.text(max_size=200), st.text(max_size=200), st.text(max_size=400), st.text(max_size=400))
def test_every_event_fits_into_its_columns_and_can_be_encoded(
    users: tuple[str, ...], sender: str, to: str, queue: str, user: str
) -> None:
    call = new_call(users=users, from_number=sender, to_number=to, queue=queue)
    for event in (call, answer(call, user=user), hangup(call)):
        fields = fields_of(event)
        for name, limit in (("from", 100), ("to", 100), ("callId", 250), ("queue", 250), ("user", 250), ("cause", 500)):
            value = fields.get(name, "")
            assert len(", ".join(value) if isinstance(value, list) else value) <= limit
        body, kind = encode(fields, "json")
        assert json.loads(body.decode()) == fields
        assert kind == "application/json"
        assert _unform(encode(fields, "form")[0]) == fields


def test_form() -> None:
    body, kind = encode({"to": "49 30", "user": ["Zoë", "A&B"]}, "form")
    assert body == b"to=49+30&user%5B%5D=Zo%C3%AB&user%5B%5D=A%26B"
    assert kind == "application/x-www-form-urlencoded"


def _unform(body: bytes) -> Fields:
    fields: Fields = {}
    for name, value in parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True):
        if name.endswith("[]"):
            existing = fields.setdefault(name[:-2], [])
            assert isinstance(existing, list)
            existing.append(value)
        else:
            fields[name] = value
    return fields
