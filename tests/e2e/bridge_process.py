"""The bridge as its own process, as an operator runs it, and its log as an operator reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.asterisk import Asterisk

PATIENCE = 30.0
"""Seconds until a test gives up on something that takes a fraction of one."""

LINES_SHOWN = 40
"""How much of the bridge's log is shown when a test fails."""


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
    async def _start(cls, config: Path, environment: Mapping[str, str] | None = None) -> Self:
        """Start it, with more *environment* if need be; its outbox is beside the settings."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", "run", "--config", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={
                **os.environ,
                "AMI2ZAMMAD_OUTBOX__PATH": str(config.with_name("outbox.db")),
                **(environment or {}),
            },
        )  # fmt: skip
        return cls(process)

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


class DoomedBridge(BridgeProcess):
    """A bridge that may be stopped or killed."""

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, config: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[DoomedBridge]:
        """Run until the end of an `async with` at most; one that still runs then must stop by itself at SIGTERM."""
        bridge = await cls._start(config, environment)
        process = bridge._process
        try:
            yield bridge
            if process.returncode is None:
                await bridge.stop()
        except BaseException:
            print("\n".join(bridge.raw[-LINES_SHOWN:]))  # which pytest shows with the failure
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await bridge._reader

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def stop(self) -> None:
        """Stop it as the service manager does; it must end well."""
        self._process.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await self._process.wait() == 0, "\n".join(self.raw[-20:])

    async def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        await self._process.wait()

    async def ended(self) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    def freeze(self) -> None:
        """Let it hang (SIGSTOP): its connections stay, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)
