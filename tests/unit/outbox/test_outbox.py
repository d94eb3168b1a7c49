"""Order within a call, calls side by side, bounds, and what happens to what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings, strategies as st
from structlog.testing import capture_logs

from ami2zammad.calls.events import CallEvent, Cause, Hangup, NewCall
from ami2zammad.outbox import Outbox, OutboxRules
from tests.unit.zammad.samples import answer, entry, hangup, new_call


class Refused(Exception):  # noqa: N818 - as the real one
    """What the stand-in raises for events that will never be taken."""


class Deliverer:
    """Takes an event after a few turns of the loop; remembers the order of arrivals and how many came at a time."""

    def __init__(self, rng: random.Random | None = None, refuse: Callable[[CallEvent], bool] | None = None) -> None:
        self.delivered: list[CallEvent] = []
        self.most = 0
        self.open = asyncio.Event()
        self.open.set()
        self._rng = rng or random.Random(0)  # noqa: S311 - no secret
        self._refuse = refuse or (lambda _: False)
        self._under_way = 0

    async def deliver(self, event: CallEvent) -> str:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await self.open.wait()
            for _ in range(self._rng.randrange(5)):
                await asyncio.sleep(0)
            if self._refuse(event):
                raise Refused("Zammad says no")
            self.delivered.append(event)
            return f"reply to {event.call_id}"
        finally:
            self._under_way -= 1


@contextlib.asynccontextmanager
async def running(outbox: Outbox[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def outbox_for(deliverer: Deliverer, *, concurrency: int = 8, **rules: float) -> Outbox[str]:
    return Outbox(
        deliverer,
        refusal=Refused,
        rules=OutboxRules(**rules),  # type: ignore[arg-type]
        concurrency=concurrency,
    )


def kinds(events: list[CallEvent], call_id: str) -> list[str]:
    return [type(event).__name__ for event in events if event.call_id == call_id]


def nothing_left(outbox: Outbox[str]) -> bool:
    backlog = outbox._backlog
    return not (backlog._families or backlog._unbegun or backlog._lost or backlog.waiting)


async def until(condition: Callable[[], object]) -> None:
    """Give the loop to others until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - the stand-ins take turns of the loop, no time
        await asyncio.sleep(0)


async def test_one_call_in_order() -> None:
    deliverer = Deliverer()
    outbox = outbox_for(deliverer)
    async with running(outbox):
        for event in entry():
            outbox.put(event, "1.1")
        assert outbox.waiting == 3
        assert await outbox.drain(60) == ()
    assert deliverer.delivered == entry()
    assert outbox.delivered == 3
    assert nothing_left(outbox)


async def test_what_was_put_before_run_is_delivered() -> None:
    deliverer = Deliverer()
    outbox = outbox_for(deliverer)
    for event in entry():
        outbox.put(event, "f")
    async with running(outbox):
        assert await outbox.drain(60) == ()
    assert deliverer.delivered == entry()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 9))
def test_any_interleaving_keeps_the_order_of_each_family_and_loses_nothing(
    seed: int, calls: int, concurrency: int
) -> None:
    """Each call has up to three entries, forwarded from one to the next."""
    rng = random.Random(seed)  # noqa: S311 - no secret

    async def scenario() -> None:
        sources: dict[str, list[CallEvent]] = {}
        for n in range(calls):
            ids = [f"{n}", f"{n}-2", f"{n}-3"][: rng.randint(1, 3)]
            sources[f"{n}"] = [event for call_id in ids for event in entry(call_id)]
        expected = {family: list(events) for family, events in sources.items()}
        deliverer = Deliverer(rng)
        outbox = outbox_for(deliverer, concurrency=concurrency)
        async with running(outbox):
            while sources:
                family = rng.choice(list(sources))
                outbox.put(sources[family].pop(0), family)
                if not sources[family]:
                    del sources[family]
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
            assert await outbox.drain(60) == ()
            await asyncio.sleep(0)
        got = defaultdict(list)
        for event in deliverer.delivered:
            got[event.call_id.split("-")[0]].append(event)
        assert got == expected
        assert deliverer.most <= concurrency
        assert nothing_left(outbox)

    asyncio.run(scenario())


async def test_calls_do_not_wait_for_each_other() -> None:
    class Stubborn(Deliverer):
        async def deliver(self, event: CallEvent) -> str:
            if event.call_id == "stuck":
                await asyncio.Event().wait()
            return await super().deliver(event)

    deliverer = Stubborn()
    outbox = outbox_for(deliverer, concurrency=2)
    async with running(outbox):
        for event in entry("stuck"):
            outbox.put(event, "stuck")
        for n in range(50):
            for event in entry(f"{n}"):
                outbox.put(event, f"{n}")
        await until(lambda: outbox.waiting == 3)
        with capture_logs() as logs:
            left = await outbox.drain(0)
    assert left == tuple(entry("stuck"))
    assert len(deliverer.delivered) == 150
    assert logs == [{"event": "outbox.not_drained", "log_level": "warning", "waiting": 3, "durable": False}]


async def test_concurrency_is_bounded() -> None:
    deliverer = Deliverer()
    deliverer.open.clear()
    outbox = outbox_for(deliverer, concurrency=3)
    async with running(outbox):
        for n in range(10):
            outbox.put(new_call(f"{n}"), f"{n}")
        for _ in range(100):
            await asyncio.sleep(0)
        assert deliverer.most == 3
        deliverer.open.set()
        assert await outbox.drain(60) == ()
    assert deliverer.most == 3


async def test_replies_are_reported_before_the_next_event_of_the_call() -> None:
    seen: list[tuple[str, str, int]] = []
    deliverer = Deliverer()

    def on_reply(event: CallEvent, reply: str) -> None:
        seen.append((type(event).__name__, reply, len(deliverer.delivered)))

    outbox = Outbox(deliverer, refusal=Refused, on_reply=on_reply)
    async with running(outbox):
        for event in entry():
            outbox.put(event, "1.1")
        await outbox.drain(60)
    assert seen == [
        ("NewCall", "reply to 1.1", 1),
        ("Answer", "reply to 1.1", 2),
        ("Hangup", "reply to 1.1", 3),
    ]


async def test_a_fault_in_on_reply_or_in_the_deliverer_ends_nothing_and_tells_no_values() -> None:
    class Faulty(Deliverer):
        async def deliver(self, event: CallEvent) -> str:
            if event.call_id == "b":
                raise ZeroDivisionError("secret")
            return await super().deliver(event)

    def on_reply(event: CallEvent, reply: str) -> None:
        raise LookupError(f"secret {event} {reply}")

    deliverer = Faulty()
    outbox = Outbox(deliverer, refusal=Refused, on_reply=on_reply)
    with capture_logs() as logs:
        async with running(outbox):
            for call_id in "abc":
                for event in entry(call_id):
                    outbox.put(event, call_id)
            assert await outbox.drain(60) == ()
    assert kinds(deliverer.delivered, "a") == kinds(deliverer.delivered, "c") == ["NewCall", "Answer", "Hangup"]
    faults = [line for line in logs if line["event"] == "outbox.fault"]
    assert {line["error"] for line in faults} == {"LookupError", "ZeroDivisionError"}
    assert all(line["where"].startswith(("on_reply:", "deliver:")) for line in faults)
    assert "secret" not in str(logs)
    assert nothing_left(outbox)


async def test_a_refused_answer_lets_the_rest_of_the_call_go_on() -> None:
    refused = answer()
    deliverer = Deliverer(refuse=lambda event: event == refused)
    outbox = outbox_for(deliverer)
    with capture_logs() as logs:
        async with running(outbox):
            for event in (new_call(), refused, hangup()):
                outbox.put(event, "1.1")
            await outbox.drain(60)
    assert kinds(deliverer.delivered, "1.1") == ["NewCall", "Hangup"]
    assert [(refusal.event, refusal.reason) for refusal in outbox.refused] == [(refused, "Zammad says no")]
    assert logs == [
        {
            "event": "outbox.refused",
            "log_level": "warning",
            "call_id": "1.1",
            "reason": "Zammad says no",
            "entry_lost": False,
        }
    ]
    assert nothing_left(outbox)


async def test_a_refused_new_call_takes_its_entry_with_it_but_not_the_next_entry_of_the_call() -> None:
    deliverer = Deliverer(refuse=lambda event: event.call_id == "1" and isinstance(event, NewCall))
    outbox = outbox_for(deliverer)
    with capture_logs() as logs:
        async with running(outbox):
            for event in entry("1") + entry("1-2"):
                outbox.put(event, "1")
            await outbox.drain(60)
    assert deliverer.delivered == entry("1-2")
    assert [(line["event"], line["entry_lost"]) for line in logs] == [("outbox.refused", True)]
    assert outbox.dropped == 2
    assert nothing_left(outbox)


async def test_what_comes_after_a_refused_new_call_is_dropped_too() -> None:
    deliverer = Deliverer(refuse=lambda _: True)
    outbox = outbox_for(deliverer)
    async with running(outbox):
        outbox.put(new_call(), "1")
        await outbox.drain(60)
        outbox.put(answer(), "1")
        outbox.put(hangup(), "1")
        assert outbox.waiting == 0
        await outbox.drain(60)
        await asyncio.sleep(0)
    assert deliverer.delivered == []
    assert outbox.dropped == 2
    assert len(outbox.refused) == 1
    assert nothing_left(outbox)


async def test_refusals_remembered_are_bounded() -> None:
    outbox = outbox_for(Deliverer(refuse=lambda _: True))
    async with running(outbox):
        for n in range(300):
            outbox.put(hangup(new_call(f"{n}")), f"{n}")
        await outbox.drain(60)
    assert len(outbox.refused) == 100
    assert outbox.refused[-1].event.call_id in {f"{n}" for n in range(290, 300)}


async def test_at_the_limit_the_oldest_entries_not_begun_are_dropped_whole_and_said_once() -> None:
    deliverer = Deliverer()
    deliverer.open.clear()
    outbox = outbox_for(deliverer, concurrency=1, limit=9)
    with capture_logs() as logs:
        async with running(outbox):
            outbox.put(new_call("begun"), "begun")
            await until(lambda: deliverer.most)
            for n in range(6):
                for event in entry(f"{n}"):
                    outbox.put(event, f"{n}")
            for event in entry("begun")[1:]:
                outbox.put(event, "begun")
            assert outbox.waiting <= 9
            deliverer.open.set()
            assert await outbox.drain(60) == ()
            await asyncio.sleep(0)
    delivered = {event.call_id for event in deliverer.delivered}
    assert delivered == {"begun", "4", "5"}
    for call_id in delivered:
        assert kinds(deliverer.delivered, call_id) == ["NewCall", "Answer", "Hangup"]
    assert outbox.dropped == 12
    assert [line["event"] for line in logs] == ["outbox.full", "outbox.relieved"]
    assert nothing_left(outbox)


async def test_the_limit_never_drops_what_was_begun() -> None:
    deliverer = Deliverer()
    outbox = outbox_for(deliverer, limit=2)
    async with running(outbox):
        for n in range(5):
            outbox.put(new_call(f"{n}"), f"{n}")
            await outbox.drain(60)
        deliverer.open.clear()
        for n in range(5):
            outbox.put(hangup(new_call(f"{n}"), Cause.CANCEL), f"{n}")
        outbox.put(new_call("late"), "late")
        outbox.put(hangup(new_call("late")), "late")
        deliverer.open.set()
        assert await outbox.drain(60) == ()
        await asyncio.sleep(0)
    assert sum(isinstance(event, Hangup) for event in deliverer.delivered) == 5
    assert outbox.dropped == 2
    assert nothing_left(outbox)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_under_any_pressure_entries_arrive_whole_or_not_at_all(seed: int, limit: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret

    async def scenario() -> None:
        deliverer = Deliverer(rng, refuse=lambda event: isinstance(event, NewCall) and event.call_id.endswith("7"))
        outbox = outbox_for(deliverer, concurrency=3, limit=limit)
        sources = {f"{n}": entry(f"{n}") + entry(f"{n}-2") for n in range(20)}
        async with running(outbox):
            while sources:
                family = rng.choice(list(sources))
                outbox.put(sources[family].pop(0), family)
                if not sources[family]:
                    del sources[family]
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
            assert await outbox.drain(60) == ()
            await asyncio.sleep(0)
        for call_id in {event.call_id for event in deliverer.delivered}:
            assert kinds(deliverer.delivered, call_id) == ["NewCall", "Answer", "Hangup"]
        assert len(deliverer.delivered) + outbox.dropped + len(outbox.refused) == 120
        assert not outbox._backlog._families
        assert not outbox._backlog._unbegun

    asyncio.run(scenario())


async def test_what_is_under_way_when_run_is_cancelled_is_delivered_by_the_next_run() -> None:
    deliverer = Deliverer()
    deliverer.open.clear()
    outbox = outbox_for(deliverer)
    async with running(outbox):
        for event in entry():
            outbox.put(event, "1.1")
        await until(lambda: deliverer.most)
    assert outbox.waiting == 3
    deliverer.open.set()
    async with running(outbox):
        assert await outbox.drain(60) == ()
        await asyncio.sleep(0)
    assert deliverer.delivered == entry()
    assert nothing_left(outbox)


async def test_it_runs_once_at_a_time() -> None:
    outbox = outbox_for(Deliverer())
    async with running(outbox):
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="runs already"):
            await outbox.run()
