"""Waiting with a limit."""

from __future__ import annotations

import asyncio

import pytest

from ami2zammad.asterisk.waiting import done_within
from tests.fake_time import FakeTime


async def test_the_time_is_up() -> None:
    time, future = FakeTime(), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(done_within(future, 5, time.sleep))
    await time.advance(4.9)
    assert not waiting.done()
    await time.advance(0.2)
    assert await waiting is False
    assert not future.done()


async def test_done_in_time() -> None:
    time, future = FakeTime(), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(done_within(future, 5, time.sleep))
    await time.advance(1)
    future.set_exception(ValueError("found later"))
    assert await waiting is True
    assert time.sleeping() == []
    assert await done_within(future, 5, time.sleep) is True
    with pytest.raises(ValueError, match="found later"):
        future.result()


async def test_who_waits_can_be_cancelled() -> None:
    time, future = FakeTime(), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(done_within(future, 5, time.sleep))
    await time.advance(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert time.sleeping() == []
    assert not future.done()
