"""What keeps a bridge from doing its work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ami2zammad.ops.state import LONGEST_TURN, OutboxState, faults
from tests.unit.ops.samples import ASTERISK_PROBLEM, ILL, NOW, OUTBOX_PROBLEM, WELL, ZAMMAD_PROBLEM


def test_nothing_is_wrong_with_a_bridge_that_works() -> None:
    assert faults(WELL) == ()
    # Memory only is a choice, and a queue is what an outbox is for.
    assert faults(replace(WELL, outbox=OutboxState(durable=False, waiting=100))) == ()


def test_every_part_can_be_what_is_wrong() -> None:
    assert [(fault.part, fault.problem) for fault in faults(ILL)] == [
        ("asterisk", ASTERISK_PROBLEM),
        ("zammad", ZAMMAD_PROBLEM),
        ("outbox", OUTBOX_PROBLEM),
    ]


def test_a_bridge_that_just_started_is_not_connected_yet() -> None:
    (fault,) = faults(replace(WELL, asterisk=replace(WELL.asterisk, connected_since=None)))
    assert (fault.part, fault.problem.text) == ("asterisk", "not connected yet")


@pytest.mark.parametrize(
    ("busy_for", "stuck"), [(None, False), (0, False), (LONGEST_TURN, False), (LONGEST_TURN + 1, True)]
)
def test_tracking_that_does_not_come_to_an_end_is_stuck(busy_for: float | None, stuck: bool) -> None:  # noqa: FBT001
    state = replace(WELL, busy_since=None if busy_for is None else NOW - busy_for)
    assert state.stuck is stuck
    assert [fault.part for fault in faults(state)] == (["bridge"] if stuck else [])
