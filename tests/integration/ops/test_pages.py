"""What there is to see over HTTP, and for whom."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from ami2zammad.ops.http import OpsServer
from ami2zammad.ops.pages import Pages
from ami2zammad.ops.state import LONGEST_TURN
from tests.unit.ops.samples import ILL, NOW, SCRIPT, WELL, Bridge, busy_activity

TOKEN = "0123456789abcdef"
PERSONAL = ("/", "/status.json")
OPEN = ("/healthz", "/readyz", "/metrics")


@dataclass
class Reply:
    """An answer as it came."""

    status: int
    headers: Any
    text: str


class Port:
    """An operations port and a client for it."""

    def __init__(self, bridge: Bridge, server: OpsServer, session: aiohttp.ClientSession) -> None:
        self.bridge = bridge
        self.server = server
        self._session = session

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Reply:
        """Ask for `path`; headers by their names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with self._session.request(method, url, headers=named, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.text())


@contextlib.asynccontextmanager
async def port_of(host: str = "127.0.0.1", token: str = TOKEN) -> AsyncIterator[Port]:
    """Open an operations port on `host`, always asked over 127.0.0.1."""
    bridge = Bridge(WELL)
    pages = Pages(bridge.look, busy_activity(bridge), wall=bridge.wall)

    async def dial(_: str, __: str) -> str:
        return "pbx1-7"

    server = OpsServer(host, 0, token=token, dial=dial, refusal=RuntimeError, pages=pages)
    async with server, aiohttp.ClientSession() as session:
        yield Port(bridge, server, session)


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with port_of() as one:
        yield one


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_alive_as_long_as_calls_are_tracked(port: Port) -> None:
    reply = await port.get("/healthz")
    assert (reply.status, reply.text) == (200, '{"alive": true}')
    port.bridge.state = replace(ILL, busy_since=NOW - LONGEST_TURN)
    assert (await port.get("/healthz")).status == 200
    port.bridge.state = replace(WELL, busy_since=NOW - LONGEST_TURN - 1)
    assert (await port.get("/healthz")).status == 503


async def test_ready_says_why_not(port: Port) -> None:
    reply = await port.get("/readyz")
    assert (reply.status, reply.text) == (200, '{"ready": true, "faults": []}')
    port.bridge.state = ILL
    reply = await port.get("/readyz")
    assert reply.status == 503
    assert "Check asterisk.username and asterisk.secret." in reply.text


async def test_metrics(port: Port) -> None:
    reply = await port.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    assert "ami2zammad_calls_live 3.0" in reply.text
    assert (await port.get("/metrics", Accept="application/openmetrics-text")).text.endswith("# EOF\n")


async def test_the_page_and_the_same_for_programs(port: Port) -> None:
    page = await port.get("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Zoë Müller" in page.text
    data = await port.get("/status.json")
    assert (data.status, data.headers["Content-Type"]) == (200, "application/json")
    assert "Zoë Müller" in data.text


@pytest.mark.parametrize("path", [*PERSONAL, *OPEN])
async def test_nothing_is_kept_guessed_or_framed(port: Port, path: str) -> None:
    headers = (await port.get(path)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", [*PERSONAL, *OPEN])
async def test_only_reading(port: Port, path: str) -> None:
    assert (await port.get(path, method="HEAD")).status == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        reply = await port.get(path, method=method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("path", ["/nothing", "/status", "/static/../etc/passwd", "/%2e%2e/etc/passwd", f"/{SCRIPT}"])
async def test_there_is_nothing_else(port: Port, path: str) -> None:
    reply = await port.get(path)
    assert (reply.status, reply.headers["Content-Type"]) == (404, "application/json; charset=utf-8")
    assert SCRIPT not in reply.text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "localhost:1", "LOCALHOST.", "a.localhost", "[::1]:9", "127.1.2.3"]
)
async def test_on_a_loopback_address_by_a_name_of_this_machine(port: Port, host: str) -> None:
    assert (await port.get("/", Host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9000", "localhost.evil.example", "192.0.2.1", "127.0.0.1.nip.io", "", "[::2]", "@"],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/dial"])
async def test_on_a_loopback_address_by_no_other_name(port: Port, host: str, path: str) -> None:
    with capture_logs() as logs:
        reply = await port.get(path, Host=host, Authorization=f"Bearer {TOKEN}")
    assert reply.status == 421
    assert "4917699" not in reply.text
    assert [line["event"] for line in logs] == ["ops.foreign_host"]


async def test_off_loopback_names_and_numbers_need_the_token() -> None:
    async with port_of("0.0.0.0") as port:  # noqa: S104 - asked over loopback only
        for path in PERSONAL:
            for given in (
                {},
                {"Authorization": basic("wrong")},
                {"Authorization": "Basic ???"},
                {"Authorization": "x"},
            ):
                reply = await port.get(path, **given)
                assert reply.status == 401, (path, given)
                # So that a browser asks.
                assert reply.headers["WWW-Authenticate"].startswith("Basic ")
                assert "ops.token" in reply.text
                assert TOKEN not in reply.text
                assert "Emma" not in reply.text
            for right in (basic(TOKEN), basic(TOKEN, ""), f"Bearer {TOKEN}"):
                assert (await port.get(path, Authorization=right)).status == 200
            assert (await port.get(path, Authorization=basic(TOKEN), Host="pbx.example")).status == 200


async def test_off_loopback_without_a_token_nobody_sees_them() -> None:
    async with port_of("0.0.0.0", token="") as port:  # noqa: S104
        for path in PERSONAL:
            for given in ({}, {"Authorization": basic("")}, {"Authorization": "Bearer "}):
                reply = await port.get(path, **given)
                assert reply.status == 403
                assert "set ops.token" in reply.text


async def test_off_loopback_the_rest_is_open_but_names_no_addresses_and_accounts() -> None:
    async with port_of("0.0.0.0") as port:  # noqa: S104
        port.bridge.state = ILL
        assert (await port.get("/healthz")).status == 200
        assert (await port.get("/metrics")).status == 200
        reply = await port.get("/readyz")
        assert (reply.status, reply.text) == (
            503, '{"ready": false, "faults": [{"part": "asterisk"}, {"part": "zammad"}, {"part": "outbox"}]}',
        )  # fmt: skip
        assert "asterisk.secret" in (await port.get("/readyz", Authorization=f"Bearer {TOKEN}")).text


async def test_wrong_tokens_are_logged_and_browsers_that_have_not_asked_yet_are_not() -> None:
    async with port_of("0.0.0.0") as port:  # noqa: S104
        with capture_logs() as logs:
            await port.get("/")
        assert logs == []
        with capture_logs() as logs:
            await port.get("/", Authorization=basic("guess-guess-guess"))
        assert [(line["event"], line["path"]) for line in logs] == [("ops.unauthorized", "/")]
        assert "guess" not in repr(logs)


async def test_what_a_browser_sends_along_by_itself_places_no_calls(port: Port) -> None:
    assert (await port.get("/dial", method="POST", Authorization=basic(TOKEN))).status == 401
