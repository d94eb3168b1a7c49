"""A log entry says newCall, answer and hangup at most once and in order, whatever is asked of it."""

from hypothesis import given, strategies as st

from ami2zammad.calls.entry import LogEntry
from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall


def entry() -> LogEntry:
    return LogEntry("1.1", "1.1", Direction.IN, "4917699999999", "4930600100")


def test_an_answer_announces_first_and_the_hangup_repeats_the_answering_number() -> None:
    one = entry()
    one.add_user("Emma Taylor")
    one.add_user("Emma Taylor")
    new, answer = one.answer(1.0, "100", "Emma Taylor", "emma@example.com")
    assert isinstance(new, NewCall)
    assert new.users == ("Emma Taylor",)
    assert isinstance(answer, Answer)
    (hangup,) = one.hang_up(2.0, Cause.NORMAL_CLEARING)
    assert isinstance(hangup, Hangup)
    assert hangup.answering_number == "emma@example.com"
    assert hangup.call is new
    assert (one.new_call, one.answer_event) == (new, answer)


def test_users_who_come_after_the_announcement_change_nothing() -> None:
    one = entry()
    (new,) = one.announce(1.0)
    one.add_user("Emma Taylor")
    (hangup,) = one.hang_up(2.0, Cause.CANCEL)
    assert isinstance(hangup, Hangup)
    assert hangup.call is new
    assert hangup.call.users == ()


def test_a_dialplan_loop_does_not_fill_the_memory() -> None:
    one = entry()
    for number in range(1000):
        one.add_user(str(number))
    assert len(one.users) == 64


@given(st.lists(st.sampled_from(["announce", "answer", "hangup"]), max_size=12))
def test_no_order_of_calls_gives_a_sequence_that_zammad_refuses(calls: list[str]) -> None:
    one = entry()
    said: list[CallEvent] = []
    for call in calls:
        match call:
            case "announce":
                said += one.announce(1.0)
            case "answer":
                said += one.answer(1.0, "100", "Emma Taylor", "100")
            case _:
                said += one.hang_up(1.0, Cause.NORMAL_CLEARING)
    order = [type(event) for event in said]
    assert order in (
        [],
        [NewCall],
        [NewCall, Answer],
        [NewCall, Hangup],
        [NewCall, Answer, Hangup],
    )
