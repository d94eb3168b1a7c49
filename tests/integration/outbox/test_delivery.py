"""Outbox, client and Zammad together, with faults at random: every call complete, in order, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from ami2zammad.calls.decisions import Decision
from ami2zammad.calls.events import CallEvent, Cause, Hangup
from ami2zammad.outbox import Outbox
from ami2zammad.sandbox.zammad import Fault, ZammadSandbox
from ami2zammad.zammad import EventRefused, ZammadClient, ZammadEndpoint
from tests.unit.zammad.samples import Sleeps, answer, entry, new_call

DEADLINE = 60.0
"""Seconds after which a test gives up; none waits for it."""
PASSING = [fault for fault in Fault if fault not in {Fault.HANG, Fault.SLOW}]


@contextlib.asynccontextmanager
async def bridge(zammad: ZammadSandbox, rng: random.Random) -> AsyncIterator[Outbox[Decision]]:
    endpoint = ZammadEndpoint(zammad.url, timeout=DEADLINE, format="json" if rng.random() < 0.5 else "form")
    async with ZammadClient(endpoint, sleep=Sleeps(), rng=rng) as client:
        outbox = Outbox(client, refusal=EventRefused)
        task = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def some_calls(rng: random.Random) -> dict[str, list[CallEvent]]:
    """Return the events of fifteen calls, about half of them forwarded to a second entry."""
    sources: dict[str, list[CallEvent]] = {}
    for n in range(15):
        first = new_call(f"{n}")
        if rng.random() < 0.5:
            forwarded: list[CallEvent] = [first, answer(first), Hangup(2.0, first, Cause.FORWARDED)]
            sources[f"{n}"] = [*forwarded, *entry(f"{n}-2")]
        else:
            sources[f"{n}"] = entry(f"{n}")
    return sources


async def trouble(zammad: ZammadSandbox, rng: random.Random) -> None:
    """Do something to Zammad, or nothing."""
    if rng.random() < 0.4:
        zammad.fail(rng.choice(PASSING), times=rng.randint(1, 2))
    if rng.random() < 0.05:
        await zammad.down()
        await zammad.up()
    if rng.random() < 0.2:
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_fails_each_call_is_there_complete_in_order_and_once(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    async with ZammadSandbox() as zammad, bridge(zammad, rng) as outbox:
        sources = some_calls(rng)
        expected = {event.call_id for events in sources.values() for event in events}
        while sources:
            family = rng.choice(list(sources))
            outbox.put(sources[family].pop(0), family)
            if not sources[family]:
                del sources[family]
            await trouble(zammad, rng)
        assert await outbox.drain(DEADLINE) == ()
        assert outbox.refused == ()
    assert {row.call_id for row in zammad.log} == expected
    for row in zammad.log:
        # A repetition is what follows from a reply that got lost; nothing comes too early or is missing.
        assert list(dict.fromkeys(row.changes)) == ["newCall", "answer", "hangup"]
        assert row.changes == sorted(row.changes, key=["newCall", "answer", "hangup"].index)
        assert row.changes.count("newCall") == 1
    arrived = [(request.call_id, request.event) for request in zammad.requests]
    for second in (call_id for call_id in expected if call_id.endswith("-2")):
        first = second.removesuffix("-2")
        begun = arrived.index((second, "newCall"))
        assert (first, "hangup") in arrived[:begun]
        assert first not in {call_id for call_id, _ in arrived[begun:]}


async def test_what_zammad_refuses_is_recorded_and_the_others_go_on() -> None:
    rng = random.Random(1)  # noqa: S311 - no secret
    async with ZammadSandbox() as zammad, bridge(zammad, rng) as outbox:
        zammad.fail(Fault.ERROR, match=lambda request: request.call_id == "poison")
        for n in ("poison", *map(str, range(20))):
            for event in entry(n):
                outbox.put(event, n)
        await zammad.wait_for(lambda z: sum(row.state == "hangup" for row in z.log) == 20, DEADLINE)
        # It is given up when it has failed often enough, each time after another call has gone through.
        while not outbox.refused:
            call = f"next-{len(zammad.log)}"
            outbox.put(new_call(call), call)
            await zammad.wait_for(lambda z, call=call: any(row.call_id == call for row in z.log), DEADLINE)  # type: ignore[misc]
        assert await outbox.drain(DEADLINE) == ()
        (refusal,) = outbox.refused
        assert refusal.event == new_call("poison")
        assert "Error ID" in refusal.reason
        assert outbox.dropped == 2


async def test_a_half_broken_zammad_gets_everything_in_the_end() -> None:
    rng = random.Random(2)  # noqa: S311 - no secret
    async with ZammadSandbox() as zammad, bridge(zammad, rng) as outbox:
        zammad.fail(Fault.ERROR, match=lambda _: rng.random() < 0.5)
        for n in range(200):
            for event in entry(str(n)):
                outbox.put(event, str(n))
        assert await outbox.drain(DEADLINE) == ()
        assert not outbox.refused
        assert [row.changes for row in zammad.log] == [["newCall", "answer", "hangup"]] * 200
