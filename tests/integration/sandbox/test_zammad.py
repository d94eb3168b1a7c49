"""The stand-in behaves as the facts about Zammad say, row by row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ami2zammad.sandbox.zammad import Agent, Fault, ZammadSandbox, normalize

EMMA = Agent("emma@example.com", "Emma Taylor", phone="100")
CHRIS = Agent("chris@example.com", "Christopher Miller", phone="+49 30 600101", filters=("support",))


class Clock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Posts to a sandbox."""

    def __init__(self, session: aiohttp.ClientSession, zammad: ZammadSandbox) -> None:
        self._session = session
        self._zammad = zammad

    async def post(self, event: str = "newCall", **fields: Any) -> tuple[int, Any]:
        """Return status and decoded body. A field given as None is not sent."""
        body: dict[str, Any] = {
            "event": event,
            "callId": "1.1",
            "direction": "in",
            "from": "4917699999999",
            "to": "4930600100",
        }
        body |= {name.rstrip("_"): value for name, value in fields.items()}
        data = {name: value for name, value in body.items() if value is not None}
        headers = {"Accept": "application/json"}
        async with self._session.post(self._zammad.url, json=data, headers=headers) as response:
            return response.status, await response.json()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def zammad(clock: Clock) -> AsyncIterator[ZammadSandbox]:
    async with ZammadSandbox(agents=[EMMA, CHRIS], clock=clock) as sandbox:
        yield sandbox


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as open_session:
        yield open_session


@pytest.fixture
def call(session: aiohttp.ClientSession, zammad: ZammadSandbox) -> Caller:
    return Caller(session, zammad)


async def test_an_answered_call(zammad: ZammadSandbox, call: Caller, clock: Clock) -> None:
    assert await call.post(user=["Emma Taylor", "Zoë Müller"], queue="support") == (200, {})
    row = zammad.entry("1.1")
    assert (row.state, row.done, row.to_comment, row.queue) == ("newCall", False, "Emma Taylor, Zoë Müller", "support")
    assert row.waiting is None or row.talking is None
    clock.now += 5
    assert await call.post("answer", user="Emma Taylor", answeringNumber="100") == (200, {})
    assert (row.state, row.done, row.to_comment, row.answering_number) == ("answer", True, "Emma Taylor", "100")
    clock.now += 60
    assert await call.post("hangup", cause="normalClearing") == (200, {})
    assert (row.state, row.done, row.cause) == ("hangup", True, "normalClearing")
    assert [row.waiting, row.talking] == [5, 60]
    assert zammad.popups == [("emma@example.com", "1.1")]
    assert [(r.event, r.status) for r in zammad.requests] == [("newCall", 200), ("answer", 200), ("hangup", 200)]


@pytest.mark.parametrize(("cause", "done"), [("cancel", False), ("noAnswer", False), ("forwarded", True)])
async def test_an_unanswered_call_is_a_to_do_unless_forwarded(
    zammad: ZammadSandbox, call: Caller, clock: Clock, cause: str, *, done: bool
) -> None:
    await call.post()
    clock.now += 7
    await call.post("hangup", cause=cause)
    row = zammad.entry("1.1")
    assert (row.done, row.waiting, row.talking) == (done, 7, None)


async def test_voicemail_goes_back_to_the_to_do_list(zammad: ZammadSandbox, call: Caller) -> None:
    await call.post()
    await call.post("answer", user="voicemail")
    assert zammad.entry("1.1").done
    await call.post("hangup", cause="normalClearing")
    assert not zammad.entry("1.1").done


async def test_answers_after_the_end_and_twice(zammad: ZammadSandbox, call: Caller, clock: Clock) -> None:
    await call.post()
    await call.post("answer", user="Emma Taylor")
    clock.now += 3
    await call.post("answer", user="Emma Taylor")
    row = zammad.entry("1.1")
    assert row.start_at == 1003
    await call.post("hangup", cause="normalClearing")
    assert await call.post("answer", user="Christopher Miller") == (200, {})
    assert (row.state, row.to_comment, row.start_at) == ("hangup", "Emma Taylor", 1003)


async def test_an_outbound_call(zammad: ZammadSandbox, call: Caller) -> None:
    zammad.customers["492214710334"] = "Nicole Braun"
    assert await call.post(direction="out", from_="100", to="0221 4710334", user="Emma Taylor") == (200, {})
    row = zammad.entry("1.1")
    assert (row.done, row.from_comment, row.to_comment) == (True, "Emma Taylor", "Nicole Braun")
    await call.post("answer", direction="out", user="Emma Taylor", answeringNumber="100")
    assert row.to_comment == "Emma Taylor"
    assert zammad.popups == []


@pytest.mark.parametrize("key", ["caller_id", "callerId"])
async def test_routing(session: aiohttp.ClientSession, key: Any) -> None:
    async with ZammadSandbox(caller_id_key=key) as zammad:
        call = Caller(session, zammad)
        zammad.route("4989*", "49891")
        zammad.route("49*", "492")
        for call_id, to, shown in (("a", "498912345", "49891"), ("b", "4930", "492"), ("c", "4312345", "default")):
            zammad.default_caller_id = "default"
            status, body = await call.post(callId=call_id, direction="out", from_="100", to=to)
            assert (status, body) == (200, {"action": "dial", key: shown, "number": to})
            assert zammad.entry(call_id).from_ == shown


async def test_the_block_list_compares_exactly(zammad: ZammadSandbox, call: Caller) -> None:
    zammad.block("4917699999999")
    assert await call.post(callId="a", from_="+4917699999999") == (200, {})
    assert await call.post(callId="b") == (200, {"action": "reject", "reason": "busy"})
    assert await call.post(callId="c", direction="out") == (200, {})
    assert zammad.entry("b").state == "newCall"
    assert zammad.entry("b").blocked
    zammad.unblock("4917699999999")
    assert await call.post(callId="d") == (200, {})


async def test_who_is_let_in(zammad: ZammadSandbox, call: Caller) -> None:
    zammad.tokens = {"another"}
    status, body = await call.post()
    assert status == 401
    assert body["error"].startswith("Invalid token, ")
    zammad.configured = False
    status, body = await call.post()
    assert (status, body["error"][:23]) == (422, "Feature not configured,")
    zammad.enabled = False
    status, body = await call.post()
    assert (status, body["error"][:20]) == (422, "Feature is disabled,")
    assert zammad.log == []


@pytest.mark.parametrize(
    ("event", "fields", "status", "text"),
    [
        ("newCall", {"direction": "check"}, 422, "Invalid 'direction'!"),
        ("newCall", {"from_": None}, 422, "Attribute 'from' required!"),
        ("newCall", {"to": None}, 422, "Attribute 'to' required!"),
        ("transfer", {}, 422, "Error ID"),
        ("newCall", {"from_": "1" * 101}, 422, "Error ID"),
        ("newCall", {"to": "1" * 101}, 422, "Error ID"),
        ("newCall", {"callId": "1" * 251}, 422, "Error ID"),
        ("newCall", {"queue": "q" * 251}, 422, "Error ID"),
        ("newCall", {"user": ["u" * 100, "v" * 149]}, 422, "Error ID"),
        ("newCall", {"cause": "c" * 501}, 422, "Error ID"),
        ("answer", {}, 500, "Error ID"),
        ("hangup", {"cause": "busy"}, 500, "Error ID"),
    ],
)
async def test_refusals(
    zammad: ZammadSandbox, call: Caller, event: str, fields: dict[str, Any], *, status: int, text: str
) -> None:
    got, body = await call.post(event, **fields)
    assert got == status
    assert body["error"].startswith(text)
    assert zammad.log == []


async def test_values_as_long_as_the_columns_are_taken(call: Caller) -> None:
    user = ["u" * 100, "v" * 148]
    status, _ = await call.post(from_="1" * 100, to="2" * 100, callId="3" * 250, queue="q" * 250, user=user)
    assert status == 200


@pytest.mark.parametrize(
    ("texts", "exists", "direction"),
    [
        ("2025", "This object already exists.", "Invalid 'direction'!"),
        ("older", "Object already exists!", "Invalid direction!"),
    ],
)
async def test_duplicates_in_both_wordings(
    session: aiohttp.ClientSession, texts: Any, exists: str, direction: str
) -> None:
    async with ZammadSandbox(texts=texts) as zammad:
        call = Caller(session, zammad)
        await call.post()
        assert await call.post() == (500, {"error": exists})
        assert await call.post(direction="x") == (422, {"error": direction})
        assert len(zammad.log) == 1


async def test_a_list_of_users_in_an_answer_that_finds_nobody_fails_after_saving(
    zammad: ZammadSandbox, call: Caller
) -> None:
    await call.post()
    status, _ = await call.post("answer", user=["Emma Taylor"], answeringNumber="999")
    assert status == 500
    assert zammad.entry("1.1").state == "answer"
    assert await call.post("answer", user=["Emma Taylor"], answeringNumber="100") == (200, {})


@pytest.mark.parametrize(
    ("number", "user", "login"),
    [
        ("030600101", "", "chris@example.com"),
        ("4930600101", "", "chris@example.com"),
        ("100", "", "emma@example.com"),
        ("", "EMMA@example.com", "emma@example.com"),
        ("999", "Emma Taylor", None),
        ("0100", "", None),
    ],
)
async def test_whose_window_opens(
    zammad: ZammadSandbox, call: Caller, number: str, user: str, login: str | None
) -> None:
    await call.post()
    await call.post("answer", answeringNumber=number, user=user)
    assert zammad.popups == ([(login, "1.1")] if login else [])


async def test_the_filter_is_by_queue_in_the_list_but_by_to_in_the_pop_up(zammad: ZammadSandbox, call: Caller) -> None:
    await call.post(callId="a", queue="support")
    assert zammad.notified == []
    await call.post(callId="b", queue="support", to="support")
    await call.post(callId="c", to="030 600101")
    await call.post(callId="d", to="100")
    await call.post(callId="e", direction="out", from_="support")
    assert zammad.notified == [
        ("chris@example.com", "b"),
        ("chris@example.com", "c"),
        ("emma@example.com", "d"),
    ]
    assert [row.call_id for row in zammad.seen_by("chris@example.com")] == ["a", "b", "e"]
    assert len(zammad.seen_by("emma@example.com")) == 5


@pytest.mark.parametrize("multipart", [False, True])
async def test_forms(zammad: ZammadSandbox, session: aiohttp.ClientSession, *, multipart: bool) -> None:
    form = aiohttp.FormData(default_to_multipart=multipart)
    pairs = {"event": "newCall", "callId": "1.1", "direction": "in", "from": "1", "to": "2"}
    for name, value in [*pairs.items(), ("user[]", "Zoë"), ("user[]", "Emma")]:
        form.add_field(name, value)
    async with session.post(zammad.url, data=form) as response:
        assert response.status == 200
    assert zammad.entry("1.1").to_comment == "Zoë, Emma"


@pytest.mark.parametrize("body", [b"no json", b"", b"[" * 50_000])
async def test_a_body_that_is_not_json(zammad: ZammadSandbox, session: aiohttp.ClientSession, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    async with session.post(zammad.url, data=body, headers=headers) as response:
        assert response.status == 500
        assert (await response.json())["error"].startswith("Error ID ")


async def test_without_an_accept_header_errors_are_pages(zammad: ZammadSandbox, session: aiohttp.ClientSession) -> None:
    async with session.post(zammad.url, json={}, skip_auto_headers=["Accept"]) as response:
        assert (response.status, response.content_type) == (422, "text/html")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/cti/sandbox-token"), ("POST", "/api/v1/cti"), ("GET", "/")]
)
async def test_other_paths(zammad: ZammadSandbox, session: aiohttp.ClientSession, method: str, path: str) -> None:
    for accept, kind in (("application/json", "application/json"), ("text/html", "text/html")):
        async with session.request(method, zammad.base_url + path, headers={"Accept": accept}) as response:
            assert (response.status, response.content_type) == (404, kind)


@pytest.mark.parametrize(
    ("number", "digits"),
    [("030 600-100", "4930600100"), ("0049 30 1", "49301"), ("+4930", "4930"), ("100", "100"), ("anonymous", "")],
)
def test_numbers(number: str, digits: str) -> None:
    assert normalize(number) == digits


async def test_faults_in_turn(zammad: ZammadSandbox, call: Caller) -> None:
    zammad.fail(Fault.ERROR, times=1, match=lambda request: request.event == "answer")
    zammad.fail("error-after-storing", times=1)
    assert (await call.post())[0] == 500
    assert (await call.post("answer", user="Emma Taylor"))[0] == 500
    assert zammad.entry("1.1").state == "newCall"
    assert (await call.post("answer", user="Emma Taylor"))[0] == 200
    zammad.fail(Fault.TOO_MANY, seconds=7)
    assert (await call.post())[0] == 429
    zammad.heal()
    assert (await call.post("hangup", cause="busy"))[0] == 200


async def test_down_and_up_again_on_the_same_port(zammad: ZammadSandbox, call: Caller) -> None:
    await call.post()
    zammad.fail(Fault.HANG, times=1)
    hanging = asyncio.create_task(call.post())
    await zammad.wait_for(lambda z: len(z.requests) == 2)
    url = zammad.url
    await zammad.down()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    with pytest.raises(aiohttp.ClientConnectionError):
        await call.post()
    await zammad.up()
    assert zammad.url == url
    assert (await call.post("hangup", cause="busy"))[0] == 200


async def test_waiting_for_something(zammad: ZammadSandbox, call: Caller) -> None:
    waiting = asyncio.create_task(zammad.wait_for(lambda z: any(row.state == "hangup" for row in z.log)))
    await call.post()
    assert not waiting.done()
    await call.post("hangup", cause="busy")
    await waiting
    with pytest.raises(TimeoutError, match=r"the caller log has \['1.1 hangup busy'\]"):
        await zammad.wait_for(lambda _: False, timeout=0)
