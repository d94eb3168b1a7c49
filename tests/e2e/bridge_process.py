"""The bridge as its own process, as an operator runs it, and its log as an operator reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.asterisk import Asterisk

PATIENCE = 30.0
"""Seconds until a test gives up on something that takes a fraction of one."""


_CONFIGURATION = """
[asterisk]
port = {port}
username = "{account}"
secret = "{secret}"
trunks = ["PJSIP/trunk*"]

[zammad]
url = "{url}"

[numbers]
country = "DE"
outbound_prefix = "0"

[control]
reject = true

[log]
format = "json"
level = "debug"
"""


def configuration(pbx: Asterisk, zammad: ZammadSandbox, account: str = "least") -> str:
    """Return settings that join the two."""
    return _CONFIGURATION.format(port=pbx.ami_port, account=account, secret=pbx.secrets[account], url=zammad.url)


class BridgeProcess:
    """`ami2zammad run` with its log lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self._more = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, config: Path) -> AsyncIterator[BridgeProcess]:
        """Run for the length of an `async with`; the bridge must then stop by itself at SIGTERM, with exit code 0."""
        bridge = await cls._start(config)
        process = bridge._process
        try:
            yield bridge
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0, "\n".join(bridge.raw[-20:])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await bridge._reader

    @classmethod
    async def _start(cls, config: Path) -> Self:
        """Start it; its outbox is beside the settings."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", "run", "--config", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "AMI2ZAMMAD_OUTBOX__PATH": str(config.with_name("outbox.db"))},
        )  # fmt: skip
        return cls(process)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.raw.append(text)
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(text))
            async with self._more:
                self._more.notify_all()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def logged(self, event: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """Wait for a log event; return the first that matches."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line.get("event") == event and matches(line)]

        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(found)
        return found()[0]
