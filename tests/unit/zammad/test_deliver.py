"""From the first attempt to the last: what is tried again, when, and what is given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from ami2zammad.calls.decisions import Dial, Nothing, Reject
from ami2zammad.calls.events import Direction
from ami2zammad.zammad import EventRefused, ZammadClient, ZammadEndpoint
from ami2zammad.zammad.payloads import Fields
from ami2zammad.zammad.replies import Outcome
from tests.unit.zammad.samples import (
    DOWN,
    EXISTS,
    GATEWAY,
    INNER,
    OK,
    TOKEN,
    UNAUTHORIZED,
    URL,
    Scripted,
    Sleeps,
    answer,
    hangup,
    new_call,
    reply,
)

REFUSED = reply(422, {"error": "Attribute 'from' required!"})


def client(transport: Scripted, sleeps: Sleeps | None = None, *, queue_as_to: bool = False) -> ZammadClient:
    return ZammadClient(
        ZammadEndpoint(URL, queue_as_to=queue_as_to),
        transport=transport,
        sleep=sleeps or Sleeps(),
        rng=random.Random(1),  # noqa: S311 - jitter is no secret
    )


async def until(condition: Callable[[], object]) -> None:
    """Give the loop to others until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - the stand-ins take turns of the loop, no time
        await asyncio.sleep(0)


async def test_the_first_attempt_is_enough_when_all_is_well() -> None:
    sleeps = Sleeps()
    with capture_logs() as logs:
        assert await client(Scripted(), sleeps).deliver(new_call()) == Nothing()
    assert not sleeps.asked
    assert logs == [
        {
            "event": "zammad.delivered",
            "log_level": "info",
            "call_id": "1.1",
            "kind": "newCall",
            "status": 200,
            "attempts": 1,
            "duplicate": False,
        }
    ]


async def test_replies_come_through() -> None:
    rejecting = Scripted([reply(200, {"action": "reject", "reason": "busy"})])
    assert await client(rejecting).deliver(new_call()) == Reject("busy")
    dialling = Scripted([reply(200, {"action": "dial", "caller_id": "49690", "number": "49221"})])
    assert await client(dialling).deliver(new_call(direction=Direction.OUT)) == Dial("49690", "49221")


async def test_a_reply_that_makes_no_sense_is_logged_without_the_token() -> None:
    with capture_logs() as logs:
        reply_ = await client(Scripted([reply(200, {"action": f"dance {TOKEN}"})])).deliver(new_call())
    assert reply_ == Nothing()
    (ignored,) = [line for line in logs if line["event"] == "zammad.reply_ignored"]
    assert ignored["reply"] == "{'action': 'dance ***'}"


async def test_queue_as_to_reaches_the_wire() -> None:
    transport = Scripted()
    await client(transport, queue_as_to=True).deliver(hangup(new_call(queue="support")))
    assert transport.sent[0]["to"] == "support"


async def test_an_outage_is_waited_out_with_growing_jittered_pauses() -> None:
    sleeps = Sleeps()
    transport = Scripted([DOWN, GATEWAY] * 20)
    with capture_logs() as logs:
        await client(transport, sleeps).deliver(new_call())
    assert len(transport.sent) == 41
    bounds = [min(30.0, 0.5 * 2**n) for n in range(40)]
    assert all(0 <= pause <= bound for pause, bound in zip(sleeps.asked, bounds, strict=True))
    assert max(sleeps.asked) > 15
    assert len(set(sleeps.asked)) == 40
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
        "zammad.unreachable",
        "zammad.recovered",
        "zammad.delivered",
    ]
    assert logs[-1]["attempts"] == 41
    assert all(line["call_id"] == "1.1" for line in logs if line["event"] == "zammad.retry")


@pytest.mark.parametrize(("wished", "obeyed"), [(7.0, 7.0), (86400.0, 300.0)])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_up_to_five_minutes(status: int, wished: float, obeyed: float) -> None:
    sleeps = Sleeps()
    await client(Scripted([reply(status, retry_after=wished)]), sleeps).deliver(new_call())
    assert sleeps.asked == [obeyed]


async def test_a_configuration_fault_is_tried_each_minute_and_said_once() -> None:
    sleeps = Sleeps()
    disabled = reply(422, {"error": "Feature is disabled, ask."})
    with capture_logs() as logs:
        await client(Scripted([UNAUTHORIZED] * 3 + [disabled] * 3), sleeps).deliver(new_call())
    assert len(sleeps.asked) == 6
    assert all(54 <= pause <= 66 for pause in sleeps.asked)
    told = [line for line in logs if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == [
        "zammad.configuration_fault",
        "zammad.configuration_fault",
        "zammad.recovered",
        "zammad.delivered",
    ]
    assert "token in zammad.url" in told[0]["remedy"]
    assert "Switch the integration on" in told[1]["remedy"]


async def test_from_outage_to_configuration_fault_and_back() -> None:
    with capture_logs() as logs:
        await client(Scripted([DOWN, DOWN, UNAUTHORIZED, DOWN, OK])).deliver(new_call())
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
        "zammad.unreachable",
        "zammad.configuration_fault",
        "zammad.unreachable",
        "zammad.recovered",
        "zammad.delivered",
    ]


async def test_trouble_is_told_while_it_lasts() -> None:
    seen: list[str] = []
    transport = Scripted([DOWN])
    zammad = ZammadClient(ZammadEndpoint(URL), transport=transport, sleep=Sleeps())
    original = transport.post

    async def post(fields: Fields) -> Outcome:
        seen.append(zammad.trouble)
        return await original(fields)

    transport.post = post  # type: ignore[method-assign]
    await zammad.deliver(new_call())
    assert seen == ["", "Nothing listens at the host and port of zammad.url."]
    assert zammad.trouble == ""


async def test_a_new_call_stored_in_spite_of_a_500_counts_as_delivered() -> None:
    transport = Scripted([INNER, EXISTS])
    with capture_logs() as logs:
        assert await client(transport).deliver(new_call()) == Nothing()
    assert transport.events == ["newCall", "newCall"]
    assert logs[-1]["duplicate"] is True
    assert [line["log_level"] for line in logs if line["event"] == "zammad.retry"] == ["warning"]


async def test_an_answer_to_an_unknown_call_makes_the_entry_first_and_does_not_act_on_its_reply() -> None:
    transport = Scripted([INNER, reply(200, {"action": "reject", "reason": "busy"}), OK])
    sleeps = Sleeps()
    with capture_logs() as logs:
        assert await client(transport, sleeps).deliver(answer()) == Nothing()
    assert transport.events == ["answer", "newCall", "answer"]
    assert not sleeps.asked
    assert "zammad.entry_restored" in [line["event"] for line in logs]


async def test_an_inner_fault_with_a_known_call_is_tried_again_without_asking_twice() -> None:
    transport = Scripted([INNER, EXISTS, INNER, INNER, OK])
    sleeps = Sleeps()
    await client(transport, sleeps).deliver(hangup())
    assert transport.events == ["hangup", "newCall", "hangup", "hangup", "hangup"]
    assert len(sleeps.asked) == 3


async def test_the_entry_cannot_be_made() -> None:
    with pytest.raises(EventRefused, match="Attribute 'from' required!"):
        await client(Scripted([INNER, REFUSED])).deliver(answer())


async def test_an_outage_while_the_entry_is_made() -> None:
    transport = Scripted([INNER, DOWN, INNER, OK, OK])
    await client(transport).deliver(answer())
    assert transport.events == ["answer", "newCall", "answer", "newCall", "answer"]


async def test_a_wrong_event_is_refused_at_once() -> None:
    with capture_logs() as logs, pytest.raises(EventRefused) as caught:
        await client(Scripted([REFUSED])).deliver(new_call())
    assert caught.value.status == 422
    assert str(caught.value) == (
        "Zammad will not take the newCall of call 1.1. Zammad refused the event (422): Attribute 'from' required!"
    )
    assert [line["event"] for line in logs] == ["zammad.refused"]


async def test_an_event_that_always_fails_inside_is_given_up_only_when_others_go_through_for_minutes() -> None:
    def script(fields: Fields) -> Outcome:
        return INNER if fields["callId"] == "poison" else OK

    sleeps = Sleeps()
    transport = Scripted(script)
    zammad = client(transport, sleeps)
    poisonous = asyncio.create_task(zammad.deliver(new_call("poison")))
    await until(lambda: len(transport.sent) >= 50)
    assert not poisonous.done()
    good = 0
    while not poisonous.done():
        failed = len(transport.sent)
        await zammad.deliver(new_call(f"good {good}"))
        good += 1
        await until(lambda failed=failed: poisonous.done() or len(transport.sent) > failed + 1)  # type: ignore[misc]
    with pytest.raises(EventRefused, match=r"while others went through.*Error ID 0badcafe"):
        await poisonous
    assert 8 <= good <= 10


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
async def test_no_event_is_given_up_for_bad_luck_with_a_zammad_that_is_half_broken(share: float, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    zammad = client(Scripted(lambda _: INNER if rng.random() < share else OK))
    calls = [new_call(f"1.{n}") for n in range(500)]
    # All at a time: those that fail go on failing while others go through.
    assert await asyncio.gather(*(zammad.deliver(call) for call in calls)) == [Nothing()] * len(calls)


async def test_an_event_that_a_firewall_dislikes_is_given_up_when_others_keep_going_through() -> None:
    transport = Scripted(lambda fields: reply(403) if fields["callId"] == "poison" else OK)
    zammad = client(transport)
    poisonous = asyncio.create_task(zammad.deliver(new_call("poison")))
    for _ in range(100):
        await zammad.deliver(new_call("good"))
    with pytest.raises(EventRefused, match="403"):
        await poisonous


async def test_while_nothing_goes_through_all_share_one_probe() -> None:
    """Twenty calls, one attempt at a time, and a pause before each."""
    up = False
    under_way = most = 0
    pauses = 0

    class Counting(Scripted):
        async def post(self, fields: Fields) -> Outcome:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            self.sent.append(fields)
            return OK if up else DOWN

    async def sleep(seconds: float) -> None:
        nonlocal up, pauses
        if seconds:
            pauses += 1
            up = up or pauses == 30
        await asyncio.sleep(0)

    transport = Counting()
    zammad = ZammadClient(ZammadEndpoint(URL), transport=transport, sleep=sleep, connections=20)
    with capture_logs() as logs:
        first = asyncio.create_task(zammad.deliver(new_call("first")))
        await until(lambda: zammad.trouble)
        most = 0
        others = [asyncio.create_task(zammad.deliver(new_call(f"{n}"))) for n in range(20)]
        await until(lambda: up)
        assert most == 1
        await asyncio.gather(first, *others)
    probes = [fields["callId"] for fields in transport.sent if fields["callId"] != "first"]
    assert len(set(probes)) == 20
    assert [line["event"] for line in logs].count("zammad.unreachable") == 1
    assert [line["event"] for line in logs].count("zammad.recovered") == 1
    assert pauses == 30


async def test_one_bad_event_cannot_keep_the_others_waiting() -> None:
    """The probe changes hands: an event that breaks the connection is not the one that all wait for."""
    transport = Scripted(lambda fields: DOWN if fields["callId"] == "bad" else OK)
    zammad = client(transport)
    bad = asyncio.create_task(zammad.deliver(new_call("bad")))
    await until(lambda: zammad.trouble)
    await asyncio.gather(*(zammad.deliver(new_call(f"{n}")) for n in range(20)))
    bad.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bad


async def test_requests_that_were_under_way_together_fail_as_one() -> None:
    sleeps = Sleeps()
    gate = asyncio.Event()

    class Slow(Scripted):
        async def post(self, fields: Fields) -> Outcome:
            self.sent.append(fields)
            if len(self.sent) <= 8:
                await gate.wait()
                return DOWN
            return OK

    transport = Slow()
    zammad = client(transport, sleeps)
    tasks = [asyncio.create_task(zammad.deliver(new_call(f"{n}"))) for n in range(8)]
    await until(lambda: len(transport.sent) == 8)
    gate.set()
    await asyncio.gather(*tasks)
    assert len(sleeps.asked) == 1
    assert sleeps.asked[0] <= 0.5


async def test_a_cancelled_delivery_leaves_the_gate_open_for_others() -> None:
    transport = Scripted([DOWN, DOWN])
    stuck = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds and not stuck.is_set():
            stuck.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    zammad = ZammadClient(ZammadEndpoint(URL), transport=transport, sleep=sleep)
    first = asyncio.create_task(zammad.deliver(new_call("first")))
    await stuck.wait()
    second = asyncio.create_task(zammad.deliver(new_call("second")))
    first.cancel()
    assert await second == Nothing()
    assert first.cancelled()


async def test_the_check_asks_once_and_touches_nothing() -> None:
    transport = Scripted([reply(422, {"error": "Invalid 'direction'!"}), DOWN, OK])
    zammad = client(transport)
    good = await zammad.check()
    assert good.ok
    assert good.url == "https://zammad.example.com/api/v1/cti/***"
    assert transport.sent[0]["direction"] not in {"in", "out"}
    bad = await zammad.check()
    assert not bad.ok
    assert bad.problem == "Nothing listens at the host and port of zammad.url."
    assert bad.remedy
    assert zammad.trouble == ""
    assert not (await zammad.check()).ok
    assert len(transport.sent) == 3
