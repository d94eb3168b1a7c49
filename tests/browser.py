"""A real Chromium without a window, spoken to in its own words (the DevTools protocol, over a websocket).

Nothing is downloaded but Debian's package, and only by root on Debian.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PATIENCE = 60.0
"""Seconds until a test gives up on something that takes a fraction of one."""
SCREENSHOTS = Path("test-report") / "screens"

_FLAGS = (
    "--headless",
    # Root's Chromium has no sandbox; it sees nothing but our own pages.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def chromium() -> str:
    """Return where Chromium is; install it first if need be. Skips the test where that cannot be, but not in CI."""
    found = shutil.which("chromium")
    said = "only root on Debian can install it"
    if found is None and os.geteuid() == 0 and Path("/etc/debian_version").exists():
        for arguments in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", "chromium"]):
            done = subprocess.run(
                ["apt-get", *arguments],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=1200,
                check=False,
            )
            said = "\n".join(done.stdout.splitlines()[-15:])
        found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"no Chromium, which CI must not do without: {said}", pytrace=False)
        pytest.skip(f"no Chromium here: {said}")
    return found


class Tab:
    """One page. `complaints` are what a console would show in red: errors, refused content, exceptions."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session
        self.complaints: list[str] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do something by its name in the protocol."""
        return await self._browser.send(method, parameters, self.session)

    async def open(self, url: str) -> None:
        """Go to `url` and wait until it is loaded."""
        loaded = self._browser.expect(self.session, "Page.loadEventFired")
        answer = await self.send("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        await asyncio.wait_for(loaded, PATIENCE)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of the page's; promises are waited for."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            allowUnsafeEvalBlockedByCSP=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        looking = f"""new Promise((done) => {{
            const look = () => ({expression}) ? done(true) : setTimeout(look, 50);
            look();
        }})"""
        await self.evaluate(looking)

    async def text(self, selector: str = "body") -> str:
        """Return what people read there."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def screenshot(self, name: str) -> None:
        """Keep a picture of the whole page in test-report/screens, for people to look at."""
        picture = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))


class Browser:
    """A running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._expected: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._tabs: dict[str, Tab] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls) -> AsyncIterator[Browser]:
        """Run a Chromium with a profile of its own for the length of an `async with`."""
        program = chromium()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                program,
                *_FLAGS,
                f"--user-data-dir={profile}",
                "about:blank",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, "HOME": profile},
            )
            try:
                address = await _address(Path(profile) / "DevToolsActivePort", process)
                async with (
                    aiohttp.ClientSession() as session,
                    session.ws_connect(address, max_msg_size=0) as socket,
                ):
                    browser = cls(socket)
                    try:
                        yield browser
                    finally:
                        browser._reader.cancel()
                        await asyncio.wait([browser._reader])
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), PATIENCE)
                except TimeoutError:
                    process.kill()
                    await process.wait()

    async def tab(self, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True) -> Tab:
        """Open a page of that size, with or without JavaScript, for one who likes it light or dark."""
        context = await self.send("Target.createBrowserContext")
        target = await self.send(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context["browserContextId"]}
        )
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        session = str(attached["sessionId"])
        tab = self._tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Log"):
            await tab.send(f"{domain}.enable")
        narrow = width < 500
        await tab.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=narrow
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await tab.send("Emulation.setEmulatedMedia", features=[scheme])
        await tab.send("Emulation.setScriptExecutionDisabled", value=not script)
        return tab

    async def send(
        self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        command = {"id": self._number, "method": method, "params": parameters or {}}
        await self._socket.send_json(command | ({"sessionId": session} if session else {}))
        return await asyncio.wait_for(answer, PATIENCE)

    def expect(self, session: str, event: str) -> asyncio.Future[None]:
        """Return what is done at the next event of that name."""
        future = self._expected[session, event] = asyncio.get_running_loop().create_future()
        return future

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if "error" in said:
                    answer.set_exception(RuntimeError(said["error"]["message"]))
                else:
                    answer.set_result(said["result"])
                continue
            session, event, details = said.get("sessionId", ""), said["method"], said["params"]
            expected = self._expected.pop((session, event), None)
            if expected is not None and not expected.done():
                expected.set_result(None)
            if session in self._tabs:
                self._tabs[session].complaints += _complaints(event, details)


def _complaints(event: str, details: dict[str, Any]) -> list[str]:
    match event:
        case "Runtime.exceptionThrown":
            return [json.dumps(details["exceptionDetails"])]
        case "Runtime.consoleAPICalled" if details["type"] in {"error", "warning", "assert"}:
            return [json.dumps(details["args"])]
        case "Log.entryAdded" if details["entry"]["level"] in {"error", "warning"}:
            return [f"{details['entry']['text']} {details['entry'].get('url', '')}"]
    return []


async def _address(file: Path, process: asyncio.subprocess.Process) -> str:
    """Wait until Chromium says where it listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, f"Chromium ended with {process.returncode}"
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            await asyncio.sleep(0.05)


def contrast_faults() -> str:
    """Return an expression that lists the texts that are hard to read on their ground: below 4.5 : 1 (WCAG 2, AA)."""
    return """(() => {
      const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
      const light = (rgb) => {
        const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = (element) => {
        for (let one = element; one; one = one.parentElement) {
          const colour = parse(getComputedStyle(one).backgroundColor);
          if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
        }
        return [255, 255, 255];
      };
      const faults = [];
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('script')) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color).slice(0, 3)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) faults.push(`${texts.currentNode.data.slice(0, 30)}: ${ratio.toFixed(2)}`);
      }
      return faults;
    })()"""
