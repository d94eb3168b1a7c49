"""The status page in a real browser: what people see, on a desk and on a telephone, by day and by night."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ami2zammad.ops.http import OpsServer
from ami2zammad.ops.pages import Pages
from ami2zammad.ops.state import BridgeState
from ami2zammad.ops.words import duration, latency
from tests.browser import Browser, Tab, contrast_faults
from tests.unit.ops.samples import HOSTILE, ILL, SCRIPT, WELL, Bridge, busy_activity

SCREENS = [(1280, False), (1280, True), (360, False), (360, True)]


class View:
    """A bridge and its port."""

    def __init__(self, state: BridgeState) -> None:
        self.bridge = Bridge(state)
        self.activity = busy_activity(self.bridge)
        pages = Pages(self.bridge.look, self.activity, wall=self.bridge.wall)
        self.server = OpsServer("127.0.0.1", 0, token="", dial=self._dial, refusal=RuntimeError, pages=pages)

    async def _dial(self, _: str, __: str) -> str:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"


@contextlib.asynccontextmanager
async def view_of(state: BridgeState) -> AsyncIterator[View]:
    view = View(state)
    async with view.server:
        yield view


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with Browser.run() as one:
        yield one


async def fits(tab: Tab) -> bool:
    """Say whether nothing reaches beyond the right edge."""
    return bool(await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


async def test_everybody_reads_it_everywhere(browser: Browser) -> None:
    for name, state in (("well", WELL), ("ill", ILL), ("hostile", HOSTILE)):
        async with view_of(state) as view:
            for width, dark in SCREENS:
                tab = await browser.tab(width=width, dark=dark)
                await tab.open(view.url)
                screen = f"status-{name}-{width}-{'dark' if dark else 'light'}"
                await tab.screenshot(screen)
                assert await fits(tab), screen
                assert await tab.evaluate(contrast_faults()) == [], screen
                ground = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
                assert ground == ("rgb(14, 19, 24)" if dark else "rgb(243, 245, 248)")
                assert tab.complaints == [], screen


async def test_what_it_says_of_a_bridge_that_works(browser: Browser) -> None:
    async with view_of(WELL) as view:
        tab = await browser.tab()
        await tab.open(view.url)
        text = await tab.text()
        for words in (
            "All is well", "192.0.2.17:5038", "1 h 5 min", "1,234,567", "https://zammad.example.com", "12 s ago",
            "Kept on disk", "Live calls 3", "4917699999•••", "Emma Taylor, Zoë Müller", "support", "ringing", "in call",
            "4 min 7 s", "no reply within 5 s", "tried again", "given up", "1.2 s", "1 min 15 s", "pbx1",
        ):  # fmt: skip
            assert words in text, words
        assert "As of 23:50:29 UTC" in text
        assert "4917699999999" not in await tab.evaluate("document.documentElement.outerHTML")


async def test_what_it_says_of_a_bridge_in_trouble(browser: Browser) -> None:
    async with view_of(ILL) as view:
        tab = await browser.tab()
        await tab.open(view.url)
        text = await tab.text()
        for words in (
            "Not working: Asterisk, Zammad, outbox", "Check asterisk.username and asterisk.secret.", "not connected",
            "Copy zammad.url again.", "nothing goes through", "the disk is full", "12 min 34 s", "Nobody is calling.",
        ):  # fmt: skip
            assert words in text, words


async def test_the_script_shows_the_same_as_the_server(browser: Browser) -> None:
    for state in (WELL, ILL, HOSTILE, replace(WELL, calls=WELL.calls * 50)):
        async with view_of(state) as view:
            tab = await browser.tab()
            await tab.open(view.url)
            served = await tab.evaluate("document.getElementById('page').outerHTML")
            made = "fetch('status.json').then((one) => one.json()).then((report) => renderStatus(report).outerHTML)"
            assert await tab.evaluate(made) == served
            # And what the words of times are made of.
            for seconds in (0, 0.9, 59, 60, 61, 3599, 3600, 7500, 86399, 86400, 1e7):
                assert await tab.evaluate(f"duration({seconds})") == duration(seconds)
                assert await tab.evaluate(f"latency({seconds})") == latency(seconds)


async def test_it_keeps_itself_current_and_keeps_the_selection(browser: Browser) -> None:
    async with view_of(WELL) as view:
        tab = await browser.tab()
        await tab.open(view.url)
        await tab.evaluate("getSelection().selectAllChildren(document.querySelector('.mono bdi'))")
        selected = await tab.evaluate("String(getSelection())")
        assert selected == "pbx1-1795294381.99"
        view.bridge.state = replace(WELL, calls=WELL.calls[::2])
        view.bridge.now += 30
        await tab.until("document.body.innerText.includes('Live calls 2')")
        assert "42 s ago" in await tab.text()
        assert await tab.evaluate("String(getSelection())") == selected
        view.bridge.state = ILL
        await tab.until("document.body.innerText.includes('Not working: Asterisk')")
        assert tab.complaints == []


async def test_a_bridge_that_is_gone_is_noticed_and_its_return_too(browser: Browser) -> None:
    async with view_of(WELL) as view:
        tab = await browser.tab()
        await tab.open(view.url)
        port = view.server.port
    await tab.until("!document.getElementById('offline').hidden")
    assert "The bridge does not answer any more" in await tab.text("#offline")
    assert "Live calls 3" in await tab.text()
    view.server = OpsServer(
        "127.0.0.1", port, token="", dial=view._dial, refusal=RuntimeError,
        pages=Pages(view.bridge.look, view.activity, wall=view.bridge.wall),
    )  # fmt: skip
    async with view.server:
        await tab.until("document.getElementById('offline').hidden")


async def test_without_scripts_the_browser_asks_again_by_itself(browser: Browser) -> None:
    async with view_of(WELL) as view:
        tab = await browser.tab(script=False)
        await tab.open(view.url)
        loaded = browser.expect(tab.session, "Page.loadEventFired")
        view.bridge.state = ILL
        await loaded
        document = await tab.send("DOM.getDocument", depth=-1)
        assert "Not working: Asterisk" in str(document)
        assert tab.complaints == []


async def test_hostile_names_do_nothing(browser: Browser) -> None:
    async with view_of(HOSTILE) as view:
        for width in (1280, 360):
            tab = await browser.tab(width=width)
            await tab.open(view.url)
            as_served = await tab.text()
            # Once more, made by the script.
            view.bridge.now += 1
            await tab.until("document.body.innerText.includes('13 s ago')")
            for text in (as_served, await tab.text()):
                assert SCRIPT in text
                assert "and 2 more" in text
            assert await tab.evaluate("document.title") == "ami2zammad"
            assert await tab.evaluate("document.querySelectorAll('img, #page script, #page b').length") == 0
            assert await fits(tab)
            # What is written from right to left turns nothing round beside it.
            assert await tab.evaluate(
                "[...document.querySelectorAll('bdi')].every((one) => !/[\\u202e\\r\\n]/.test(one.textContent))"
            )
            assert tab.complaints == []


async def test_it_is_made_for_screen_readers_too(browser: Browser) -> None:
    async with view_of(WELL) as view:
        tab = await browser.tab(width=360)
        await tab.open(view.url)
        nodes = (await tab.send("Accessibility.getFullAXTree"))["nodes"]
        roles = [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]
        ]
        # Tables stay tables where they are shown as cards.
        assert [name for role, name in roles if role == "table"] == [
            "Live calls",
            "Latest failures",
            "Latest deliveries",
        ]
        assert len([role for role, _ in roles if role == "row"]) == 4 + 3 + 4
        assert ("status", "") in roles
        assert ("heading", "ami2zammad") in roles
        assert {"banner", "main", "contentinfo"} <= {role for role, _ in roles}
        levels = await tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
        assert await tab.evaluate("document.documentElement.lang") == "en"
