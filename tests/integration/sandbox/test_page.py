"""The stand-in's page, in a real browser: rows as an agent sees them, as calls come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ami2zammad.sandbox.page import add_pages, caller_log
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.browser import Browser, contrast_faults

PATIENCE = 60.0
SCRIPT = "<script>document.title = 'owned'</script>"
SCREENS = [(1280, False), (1280, True), (360, False), (360, True)]


class Clock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now = 1_795_823_429.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Posts to a stand-in whose page can be looked at."""

    def __init__(self, zammad: ZammadSandbox, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.zammad = zammad
        self.session = session
        self.clock = clock

    async def post(self, call_id: str, *events: str, url: str = "", **fields: Any) -> None:
        """Post some events of one call, 5 seconds apart."""
        body = {"callId": call_id, "direction": "in", "from": "4917699999999", "to": "4930600100"}
        body |= {name.rstrip("_"): value for name, value in fields.items()}
        for event in events:
            async with self.session.post(url or self.zammad.url, json=body | {"event": event}) as response:
                await response.read()
            self.clock.now += 5

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return status and text of a page."""
        async with self.session.get(self.zammad.base_url + path, headers=headers) as response:
            return response.status, await response.text()

    async def a_day(self) -> None:
        """Let some calls happen."""
        self.zammad.customers["4917699999999"] = "Nicole Braun"
        await self.post("1.1", "newCall", user=["Emma Taylor", "Zoë Müller"], queue="support")
        await self.post("1.1", "answer", user="Emma Taylor", answeringNumber="100")
        await self.post("1.1", "hangup", cause="normalClearing")
        await self.post("1.2", "newCall", "hangup", from_="anonymous", user="Christopher Miller", cause="cancel")
        await self.post("1.3", "newCall", direction="out", from_="4930600100", to="492214710334", user="Emma Taylor")
        await self.post("1.3", "answer", direction="out", from_="4930600100", to="492214710334")
        await self.post("1.4", "newCall", user="Emma Taylor")
        await self.post("1.4", "answer", user="voicemail")
        await self.post("1.4", "hangup", cause="normalClearing")
        await self.post("1.5", "newCall", "hangup", queue="sales", cause="forwarded")
        await self.post("1.6", "newCall", user="Zoë Müller", queue="sales")


@contextlib.asynccontextmanager
async def caller_of() -> AsyncIterator[Caller]:
    clock = Clock()
    async with ZammadSandbox(pages=add_pages, clock=clock) as zammad, aiohttp.ClientSession() as session:
        yield Caller(zammad, session, clock)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with caller_of() as one:
        yield one


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with Browser.run() as one:
        yield one


async def test_the_rows_are_those_of_an_agent(caller: Caller) -> None:
    await caller.a_day()
    rows = caller_log(caller.zammad)["rows"]
    seen = [
        (row["call_id"], row["who"], row["queue"], row["state"], row["to_do"], row["waited"], row["talked"])
        for row in rows
    ]
    assert seen == [
        ("1.6", "Zoë Müller", "sales", "ringing", False, 5, None),
        ("1.5", "", "sales", "passed on", False, 5, None),
        ("1.4", "voicemail", "", "voicemail", True, 5, 5),
        ("1.3", "Emma Taylor", "", "in call", False, 5, 35),
        ("1.2", "Christopher Miller", "", "missed", True, 5, None),
        ("1.1", "Emma Taylor", "support", "answered", False, 5, 5),
    ]
    assert [row["from_name"] for row in rows if row["call_id"] == "1.1"] == ["Nicole Braun"]


async def test_the_endpoint_is_as_before(caller: Caller) -> None:
    await caller.post("1.1", "newCall")
    assert len(caller.zammad.log) == 1
    for path in ("/api/v1/cti/x", "/nothing"):
        assert (await caller.get(path))[0] == 404
    async with caller.session.post(caller.zammad.base_url + "/", json={}) as response:
        assert response.status == 404


async def test_no_web_page_from_elsewhere_reads_along(caller: Caller) -> None:
    for path in ("/", "/log.json"):
        assert (await caller.get(path))[0] == 200
        assert (await caller.get(path, Host="evil.example"))[0] == 421


async def test_calls_come_and_go_while_somebody_looks(caller: Caller, browser: Browser) -> None:
    tab = await browser.tab()
    await tab.open(caller.zammad.base_url)
    await tab.until("document.body.innerText.includes('No calls yet.')")
    assert f'url = "{caller.zammad.url}"' in await tab.text("code")
    await caller.post("1.1", "newCall", user="Emma Taylor", queue="support")
    await tab.until("document.body.innerText.includes('ringing')")
    assert "1 live call" in await tab.text(".top")
    await caller.post("1.1", "answer", user="Emma Taylor")
    await tab.until("document.body.innerText.includes('in call')")
    await caller.post("1.1", "hangup", cause="normalClearing")
    await tab.until("document.body.innerText.includes('answered')")
    row = await tab.text("tbody tr")
    for words in ("in", "4917699999999", "4930600100", "Emma Taylor", "support", "normalClearing", "5 s", "1.1"):
        assert words in row
    await caller.post("1.2", "newCall", url=caller.zammad.url + "x")
    await tab.until("document.body.innerText.includes('401')")
    assert tab.complaints == []


async def test_everybody_reads_it_everywhere(caller: Caller, browser: Browser) -> None:
    for name in ("empty", "day", "hostile"):
        if name == "day":
            await caller.a_day()
        elif name == "hostile":
            await caller.post(
                f"9.9{SCRIPT}", "newCall", from_=f"\u202e+49{SCRIPT}", to="\N{MAN}\u200d\N{GIRL}" * 30,
                user=["مرحبا بالعالم" * 3, SCRIPT, "W" * 100], queue="q" * 250,
            )  # fmt: skip
            assert caller.zammad.requests[-1].status == 200
            await caller.post("x" * 100_000, SCRIPT)
        for width, dark in SCREENS:
            tab = await browser.tab(width=width, dark=dark)
            await tab.open(caller.zammad.base_url)
            await tab.until("document.querySelector('main') !== null")
            screen = f"sandbox-{name}-{width}-{'dark' if dark else 'light'}"
            await tab.screenshot(screen)
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await tab.evaluate(wide) <= 0, screen
            assert await tab.evaluate(contrast_faults()) == [], screen
            assert await tab.evaluate("document.title") == "Zammad stand-in"
            assert await tab.evaluate("document.querySelectorAll('img, #page script').length") == 0
            assert tab.complaints == [], screen
            assert (SCRIPT in await tab.text()) is (name == "hostile")


async def test_the_page_is_bounded(caller: Caller) -> None:
    for number in range(250):
        await caller.post(f"1.{number}", "newCall")
    shown = caller_log(caller.zammad)
    assert (shown["count"], len(shown["rows"]), shown["rows"][0]["call_id"], len(shown["requests"])) == (
        250,
        200,
        "1.249",
        12,
    )


@contextlib.asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """Run a command of ours that serves; it is ended if it has not by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ami2zammad", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def found(lines: asyncio.StreamReader, pattern: str) -> str:
    """Wait for a line with `pattern`; return its first group."""
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            if match := re.search(pattern, line.decode()):
                return match[1]
    raise AssertionError(pattern)


async def test_the_command_says_what_to_set_and_ends_fine_with_ctrl_c() -> None:
    async with (
        command("sandbox", "--listen", "127.0.0.1:0", "--token", "my-token") as (process, lines),
        aiohttp.ClientSession() as session,
    ):
        url = await found(lines, r'url = "(http://127\.0\.0\.1:\d+/api/v1/cti/my-token)"')
        page = await found(lines, r"caller log: (http://127\.0\.0\.1:\d+/)$")
        async with session.get(page) as response:
            assert response.status == 200
        async with session.post(
            url, json={"event": "newCall", "callId": "1", "direction": "in", "from": "1", "to": "2"}
        ) as r:
            assert r.status == 200
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def test_an_address_that_is_taken_is_named(caller: Caller) -> None:
    for arguments in (("sandbox", "--listen"), ("demo", "--serve")):
        async with command(*arguments, f"127.0.0.1:{caller.zammad.port}") as (process, lines):
            told = (await asyncio.wait_for(lines.read(), PATIENCE)).decode()
            assert await process.wait() == 1
            assert "address already in use" in told
            assert arguments[1] in told
            assert "Traceback" not in told


async def test_the_demo_stays_where_it_can_be_looked_at(browser: Browser) -> None:
    async with command("demo", "--speed", "20", "--serve", "127.0.0.1:0") as (process, lines):
        page = await found(lines, r"The caller log, live: (http://127\.0\.0\.1:\d+/)")
        verdict = await found(lines, r"(complete and in order|missing from|not expected in)")
        await found(lines, r"The caller log stays at (.*) until Ctrl-C")
        tab = await browser.tab()
        await tab.open(page)
        await tab.until("Number(document.querySelector('.count')?.textContent) > 8")
        assert "Emma Taylor" in await tab.text()
        process.send_signal(signal.SIGINT)
        # At that speed the bridge's own times are too long for some calls; what is said and the exit code agree.
        assert await asyncio.wait_for(process.wait(), PATIENCE) == (0 if verdict.startswith("complete") else 1)
