"""The queue: order, and pausing in place of losing."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import LogCapture

from ami2zammad.asterisk.intake import EventIntake
from ami2zammad.calls.signalling import HangupRequested, Signal


class Tap:
    """Stands for a session."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")


def signals(count: int) -> list[Signal]:
    return [HangupRequested(0.0, str(number)) for number in range(count)]


async def test_batches_come_in_order(log: Any) -> None:
    intake = EventIntake(log)
    intake.put(signals(2))
    intake.put([])
    intake.put(signals(3))
    assert await intake.get_batch() == signals(2)
    async for batch in intake:
        assert batch == signals(3)
        break
    assert (intake.waiting, intake.total) == (0, 5)


async def test_it_pauses_at_the_limit_and_resumes_at_half_with_one_line_each(log: Any, capture: LogCapture) -> None:
    times = iter([10.0, 12.5])
    intake, session = EventIntake(log, limit=10, clock=lambda: next(times)), Tap()
    intake.attach(session)
    for _ in range(6):
        intake.put(signals(3))
    assert session.said == ["pause"]
    assert intake.waiting == 18
    for _ in range(4):
        await intake.get_batch()
    assert session.said == ["pause"]
    await intake.get_batch()
    assert session.said == ["pause", "resume"]
    await intake.get_batch()
    assert intake.full_count == 1
    assert capture.entries == [
        {"event": "ami.intake_full", "log_level": "warning", "waiting": 12, "limit": 10},
        {"event": "ami.intake_drained", "log_level": "info", "waiting": 3, "limit": 10, "seconds": 2.5},
    ]


async def test_a_session_that_comes_to_a_full_queue_waits(log: Any) -> None:
    intake, first, second = EventIntake(log, limit=4), Tap(), Tap()
    intake.attach(first)
    intake.put(signals(4))
    intake.detach()
    intake.attach(second)
    await intake.get_batch()
    assert (first.said, second.said) == (["pause"], ["pause", "resume"])


async def test_the_consumer_waits_for_what_comes(log: Any) -> None:
    intake = EventIntake(log)
    consumer = asyncio.create_task(intake.get_batch())
    await asyncio.sleep(0)
    intake.put(signals(1))
    assert await consumer == signals(1)
