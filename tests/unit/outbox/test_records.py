"""What is written of an event is what is read again."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall
from ami2zammad.outbox.records import UnreadableRecordError, from_text, to_text

new_calls = st.builds(
    NewCall,
    at=st.just(7.0),
    call_id=st.text(),
    direction=st.sampled_from(Direction),
    from_number=st.text(),
    to_number=st.text(),
    users=st.lists(st.text(st.characters())).map(tuple),
    queue=st.text(),
    first_call_id=st.text(),
)
events: st.SearchStrategy[CallEvent] = (
    new_calls
    | st.builds(Answer, st.just(7.0), new_calls, st.text(), st.text())
    | st.builds(Hangup, st.just(7.0), new_calls, st.sampled_from(Cause), st.text())
)


@given(events)
def test_any_event_comes_back(event: CallEvent) -> None:
    text = to_text(event)
    assert text.isascii()
    assert from_text(event.kind, event.call_id, text, 7.0) == event


def test_half_a_character_in_a_name_can_be_stored() -> None:
    event = NewCall(7.0, "1.1", Direction.IN, "1", "2", ("\ud83d",))
    assert from_text("newCall", "1.1", to_text(event).encode("ascii").decode(), 7.0) == event


@pytest.mark.parametrize("kind", ["newCall", "answer", "hangup", "other"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"direction": "up"}', "null", "[" * 100_000])
def test_nonsense_is_unreadable(kind: str, text: str) -> None:
    with pytest.raises(UnreadableRecordError):
        from_text(kind, "1.1", text, 0.0)
