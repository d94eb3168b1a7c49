"""Causes: every row of the table in docs/calls.md."""

import pytest

from ami2zammad.calls import causes
from ami2zammad.calls.events import Cause


@pytest.mark.parametrize(
    ("numbers", "cause"),
    [
        ((17,), Cause.BUSY),
        ((18, 19, 21), Cause.NO_ANSWER),
        ((1, 2, 3, 20, 22, 28), Cause.NOT_FOUND),
        ((27, 34, 38, 41, 42, 44, 47, 58, 66, 127), Cause.CONGESTION),
    ],
)
def test_a_failure_has_its_cause(numbers: tuple[int, ...], cause: Cause) -> None:
    for number in numbers:
        assert causes.of_number(number) is cause
        assert causes.of_leg("NOANSWER", number) is cause


@pytest.mark.parametrize("number", [0, 16, 26, 31, 999, -1])
def test_other_numbers_say_nothing(number: int) -> None:
    assert causes.of_number(number) is None


@pytest.mark.parametrize(
    ("status", "number", "cause"),
    [
        ("BUSY", 0, Cause.BUSY),
        ("CONGESTION", 0, Cause.CONGESTION),
        ("CHANUNAVAIL", 0, Cause.NOT_FOUND),
        ("NOANSWER", 0, Cause.NO_ANSWER),
        ("", 0, Cause.NO_ANSWER),
        ("CANCEL", 127, Cause.NO_ANSWER),
        ("CANCEL", 0, Cause.NO_ANSWER),
        ("BUSY", 17, Cause.BUSY),
    ],
)
def test_the_dial_status_fills_in_and_a_leg_called_off_has_only_rung(status: str, number: int, cause: Cause) -> None:
    assert causes.of_leg(status, number) is cause


def test_the_outcome_nearest_to_a_conversation_wins() -> None:
    ranking = [Cause.BUSY, Cause.NO_ANSWER, Cause.NOT_FOUND, Cause.CONGESTION]
    for position, better in enumerate(ranking):
        assert causes.better(None, better) is better
        for worse in ranking[position:]:
            assert causes.better(better, worse) is better
            assert causes.better(worse, better) is better
