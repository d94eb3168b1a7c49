"""The client and a Zammad, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
import trustme
from structlog.testing import capture_logs

from ami2zammad.calls.decisions import Decision, Dial, Reject
from ami2zammad.calls.events import Direction
from ami2zammad.sandbox.zammad import Agent, Fault, ZammadSandbox
from ami2zammad.zammad import BadEndpoint, CheckResult, EventRefused, ZammadClient, ZammadEndpoint
from tests.unit.zammad.samples import TOKEN, Sleeps, answer, entry, hangup, new_call

NEVER = 60.0
"""Seconds of a time-out that no test waits for."""

Format = Literal["json", "form"]


@pytest.fixture
async def zammad() -> AsyncIterator[ZammadSandbox]:
    async with ZammadSandbox(token=TOKEN, agents=[Agent("emma", "Emma Taylor", phone="100")]) as sandbox:
        yield sandbox


@contextlib.asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[ZammadClient]:
    settings = {"timeout": NEVER} | options
    async with ZammadClient(ZammadEndpoint(url, **settings), sleep=Sleeps(), rng=random.Random(1)) as client:  # noqa: S311
        yield client


@pytest.mark.parametrize("form", ["json", "form"])
async def test_a_call_in_both_formats(zammad: ZammadSandbox, form: Format) -> None:
    async with client_of(zammad.url, format=form) as client:
        for event in entry(users=("Emma Taylor", "Zoë & Müller+"), queue="support"):
            await client.deliver(event)
    row = zammad.entry("1.1")
    assert (row.state, row.cause, row.queue, row.to_comment) == ("hangup", "normalClearing", "support", "Emma Taylor")
    assert row.changes == ["newCall", "answer", "hangup"]
    assert zammad.popups == [("emma", "1.1")]
    first = zammad.requests[0]
    assert first.fields["user"] == ["Emma Taylor", "Zoë & Müller+"]
    assert first.accept == "application/json"
    assert first.user_agent.startswith("ami2zammad/")


@pytest.mark.parametrize("key", ["caller_id", "callerId"])
async def test_replies(key: Any) -> None:
    async with ZammadSandbox(caller_id_key=key) as zammad, client_of(zammad.url) as client:
        zammad.block("4917699999999")
        zammad.default_caller_id = "496990009111"
        assert await client.deliver(new_call()) == Reject("busy")
        out = new_call("2", direction=Direction.OUT, from_number="100", to_number="492214710334")
        assert await client.deliver(out) == Dial("496990009111", "492214710334")


@pytest.mark.parametrize("texts", ["2025", "older"])
async def test_redelivery_is_harmless(texts: Any) -> None:
    async with ZammadSandbox(texts=texts) as zammad, client_of(zammad.url) as client:
        for event in [*entry(), *entry()]:
            await client.deliver(event)
        assert len(zammad.log) == 1
        assert zammad.entry("1.1").state == "hangup"


async def test_an_entry_that_zammad_lost_is_made_again(zammad: ZammadSandbox) -> None:
    async with client_of(zammad.url) as client:
        await client.deliver(hangup())
    assert zammad.entry("1.1").changes == ["newCall", "hangup"]


@pytest.mark.parametrize("fault", [f for f in Fault if f not in {Fault.HANG, Fault.SLOW}])
@pytest.mark.parametrize("form", ["json", "form"])
async def test_every_fault_is_overcome(zammad: ZammadSandbox, fault: Fault, form: Format) -> None:
    async with client_of(zammad.url, format=form) as client:
        for event in entry():
            zammad.fail(fault, times=3)
            await client.deliver(event)
            zammad.heal()
    row = zammad.entry("1.1")
    assert list(dict.fromkeys(row.changes)) == ["newCall", "answer", "hangup"]
    assert (row.state, row.cause) == ("hangup", "normalClearing")


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.SLOW])
async def test_no_reply_in_time(zammad: ZammadSandbox, fault: Fault) -> None:
    zammad.fail(fault, times=1, seconds=NEVER)
    async with client_of(zammad.url, timeout=0.2) as client:
        with capture_logs() as logs:
            await client.deliver(new_call())
    assert len(zammad.log) == 1
    assert "did not reply in time" in logs[0]["reason"]


async def test_down_for_a_while(zammad: ZammadSandbox) -> None:
    tried = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds:
            tried.set()
        await asyncio.sleep(0)

    endpoint = ZammadEndpoint(zammad.url, timeout=NEVER)
    async with ZammadClient(endpoint, sleep=sleep) as client:
        await client.deliver(new_call())
        await zammad.down()
        delivery = asyncio.create_task(client.deliver(answer()))
        await tried.wait()
        await zammad.up()
        await delivery
    assert zammad.entry("1.1").state == "answer"


async def test_retry_after_as_seconds_and_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    earlier = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    wishes = iter(["7", "86400", later, earlier, "soon", None])

    def respond() -> bytes:
        wish = next(wishes)
        if wish is None:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        return f"HTTP/1.1 503 No\r\nRetry-After: {wish}\r\nContent-Length: 0\r\n\r\n".encode()

    sleeps = Sleeps()
    async with raw_server(respond) as port:
        endpoint = ZammadEndpoint(f"http://127.0.0.1:{port}/{TOKEN}", timeout=NEVER)
        async with ZammadClient(endpoint, sleep=sleeps) as client:
            await client.deliver(new_call())
    assert sleeps.asked[:2] == [7.0, 300.0]
    assert 0 < sleeps.asked[2] <= 101
    assert all(pause <= 30 for pause in sleeps.asked[3:])


# ------------------------------------------------------------------ check


async def test_the_check_leaves_no_trace(zammad: ZammadSandbox) -> None:
    async with client_of(zammad.url) as client:
        assert await client.check() == CheckResult(ok=True, url=zammad.url.replace(TOKEN, "***"), status=422)
    assert zammad.log == []


Prepare = Callable[[ZammadSandbox], object]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda z: z.tokens.clear(), "The token in zammad.url"),
        (lambda z: setattr(z, "enabled", False), "Switch the integration on"),
        (lambda z: setattr(z, "configured", False), "fill in its settings"),
        (lambda z: z.fail(Fault.WEB_PAGE), "/api/v1/cti/"),
        (lambda z: z.fail(Fault.REDIRECT), "Set zammad.url to the address that it leads to"),
        (lambda z: z.fail(Fault.ERROR), "production.log"),
        (lambda z: z.fail(Fault.UNAVAILABLE), "down or restarting"),
        (lambda z: z.fail(Fault.TOO_MANY), "raise the limit"),
        (lambda z: z.down(), "web server runs"),
    ],
)
async def test_what_the_check_finds(zammad: ZammadSandbox, prepare: Prepare, words: str) -> None:
    done = prepare(zammad)
    if isinstance(done, Awaitable):
        await done
    async with client_of(zammad.url) as client:
        result = await client.check()
    assert not result.ok
    assert result.problem
    assert words in result.remedy


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://no-such-host.invalid/api/v1/cti/{TOKEN}", "cannot be resolved"),
        (f"http://a..b/api/v1/cti/{TOKEN}", ""),
        (f"http://{'x' * 70}.invalid/{TOKEN}", ""),
    ],
)
async def test_the_check_of_a_host_that_is_none(url: str, words: str) -> None:
    async with client_of(url) as client:
        result = await client.check()
    assert not result.ok
    assert words in result.problem
    assert TOKEN not in repr(result)


async def test_the_check_of_a_wrong_path(zammad: ZammadSandbox) -> None:
    async with client_of(f"{zammad.base_url}/cti/{TOKEN}") as client:
        result = await client.check()
    assert result.status == 404
    assert "copy the URL for zammad.url" in result.remedy


async def test_the_check_of_something_that_never_replies(zammad: ZammadSandbox) -> None:
    zammad.fail(Fault.HANG)
    async with client_of(zammad.url, timeout=0.1) as client:
        assert "did not reply in time" in (await client.check()).problem


async def test_the_check_of_something_that_speaks_no_http() -> None:
    async with (
        raw_server(lambda: b"220 mail.example.com ESMTP\r\n") as port,
        client_of(f"http://127.0.0.1:{port}/x") as c,
    ):
        assert "does not speak HTTP" in (await c.check()).problem


async def test_use_outside_its_context_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await ZammadClient(ZammadEndpoint("http://127.0.0.1:1/x")).check()


# ------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[ZammadSandbox]:
    async with tls_sandbox(authority, "127.0.0.1") as zammad:
        yield zammad


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@contextlib.asynccontextmanager
async def tls_sandbox(authority: trustme.CA, host: str, **times: Any) -> AsyncIterator[ZammadSandbox]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **times).configure_cert(context)
    async with ZammadSandbox(token=TOKEN, tls=context) as zammad:
        yield zammad


async def test_an_unknown_authority_is_rejected_with_a_remedy_and_tried_each_minute(secure: ZammadSandbox) -> None:
    sleeps = Sleeps()
    async with ZammadClient(ZammadEndpoint(secure.url, timeout=NEVER), sleep=sleeps) as client:
        result = await client.check()
        assert not result.ok
        assert "not trusted" in result.problem
        assert "zammad.ca_file" in result.remedy
        delivery = asyncio.create_task(client.deliver(new_call()))
        while not sleeps.asked:  # noqa: ASYNC110 - the stand-in sleep takes no time
            await asyncio.sleep(0)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
    assert 54 <= sleeps.asked[0] <= 66
    assert not secure.requests


async def test_the_authority_named_in_ca_file_is_trusted(secure: ZammadSandbox, ca_file: Path) -> None:
    async with client_of(secure.url, ca_file=ca_file) as client:
        assert (await client.check()).ok
        await client.deliver(new_call())
    assert len(secure.log) == 1


async def test_verification_can_be_switched_off(secure: ZammadSandbox) -> None:
    async with client_of(secure.url, verify_tls=False) as client:
        assert (await client.check()).ok


async def test_a_certificate_for_another_host(authority: trustme.CA, ca_file: Path) -> None:
    async with (
        tls_sandbox(authority, "other.example.com") as zammad,
        client_of(zammad.url, ca_file=ca_file) as client,
    ):
        result = await client.check()
    assert "not valid for '127.0.0.1'" in result.problem


async def test_a_certificate_that_has_run_out(authority: trustme.CA, ca_file: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    async with (
        tls_sandbox(authority, "127.0.0.1", not_after=past) as zammad,
        client_of(zammad.url, ca_file=ca_file) as client,
    ):
        result = await client.check()
    assert "expired" in result.problem


async def test_https_to_a_port_without_tls(zammad: ZammadSandbox) -> None:
    async with client_of(zammad.url.replace("http:", "https:")) as client:
        result = await client.check()
    assert "does not speak TLS" in result.problem


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("no PEM", "holds no certificate")])
async def test_a_ca_file_that_is_none(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadEndpoint, match=rf"{words}.*: correct zammad\.ca_file"):
        async with client_of(f"https://127.0.0.1/{TOKEN}", ca_file=path):
            pass


# ------------------------------------------------------------------ the secret


@contextlib.contextmanager
def everything_written(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Collect every log line, of structlog and of the standard library, debug included."""
    caplog.set_level("DEBUG")
    lines: list[str] = []

    def keep(_: Any, __: str, fields: Any) -> Any:
        lines.append(repr(fields))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield lambda: "\n".join(lines) + caplog.text
    finally:
        structlog.configure(**before)


def everything_about(error: BaseException) -> str:
    """Return all that a log could show of `error` and of what lies behind it."""
    texts = ["".join(traceback.format_exception(error)), repr(error), str(error), repr(error.args)]
    behind = [e for e in (error.__cause__, error.__context__) if e is not None]
    return "\n".join([*texts, *(everything_about(e) for e in behind)])


async def results(tasks: list[asyncio.Task[Decision]]) -> list[Decision | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def _poison(zammad: ZammadSandbox) -> None:
    zammad.fail(Fault.ERROR, match=lambda request: request.call_id == "1.1")


@pytest.mark.parametrize(
    "prepare",
    [
        *((lambda z, f=fault: z.fail(f, times=2, seconds=NEVER)) for fault in Fault),
        lambda z: z.tokens.clear(),
        lambda z: setattr(z, "enabled", False),
        lambda z: z.down(),
        _poison,
        lambda _: None,
    ],
)
async def test_the_token_gets_nowhere(
    zammad: ZammadSandbox, caplog: pytest.LogCaptureFixture, prepare: Prepare
) -> None:
    pauses = 0
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal pauses
        pauses += bool(seconds)
        if pauses > 12:
            done.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    with everything_written(caplog) as written:
        client = ZammadClient(ZammadEndpoint(zammad.url, timeout=0.2), sleep=sleep)
        result = prepare(zammad)
        if isinstance(result, Awaitable):
            await result
        async with client:
            texts = [repr(await client.check()), repr(client)]
            deliveries = [asyncio.create_task(client.deliver(new_call(n))) for n in ("1.1", "1.2")]
            stopped = asyncio.create_task(done.wait())
            both = asyncio.create_task(results(deliveries))
            await asyncio.wait([both, stopped], return_when=asyncio.FIRST_COMPLETED)
            texts.append(client.trouble)
            for task in (*deliveries, stopped):
                task.cancel()
            texts += [everything_about(e) for e in await both if isinstance(e, BaseException)]
        assert "zammad." in written()
        assert TOKEN not in written() + "".join(texts)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 502])
async def test_a_page_that_repeats_the_token_is_quoted_without_it(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Frameworks in development mode print the request's path."""
    body = f"<html><title>No route {'x' * 280} /cti/{TOKEN}</title></html>".encode()
    bad = f"HTTP/1.1 {status} No\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    outcomes = iter([bad, bad, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])
    with everything_written(caplog) as written:
        async with raw_server(lambda: next(outcomes)) as port, client_of(f"http://127.0.0.1:{port}/{TOKEN}") as client:
            texts = [repr(await client.check())]
            try:
                await client.deliver(new_call())
            except EventRefused as error:
                texts.append(everything_about(error))
        assert "zammad." in written()
        assert TOKEN[:6] not in written() + "".join(texts)


# ------------------------------------------------------------------ helpers


@contextlib.asynccontextmanager
async def raw_server(respond: Callable[[], bytes]) -> AsyncIterator[int]:
    """Answer each request with the bytes that `respond` gives, then close the connection; yield the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            writer.write(respond())
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
