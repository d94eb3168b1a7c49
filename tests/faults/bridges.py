"""The bridge of a cell: one set of settings, one outbox, and one process after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.bridge_process import DoomedBridge
from tests.faults.pbxes import Pbx

PATIENCE = 120.0
"""Seconds until a test gives up on something that takes some seconds, on a machine with many others at work."""

_SETTINGS = """
[asterisk]
port = {port}
username = "{account}"
secret = "{secret}"
trunks = ["PJSIP/trunk*"]
ping_interval = {ping_interval}
ping_timeout = {ping_timeout}

[zammad]
url = "{url}"
timeout = {zammad_timeout}

[numbers]
country = "DE"
outbound_prefix = "0"

[calls]
settle = {settle}

[outbox]
shutdown_timeout = 1

[log]
format = "json"
level = "{log_level}"
"""


def write_settings(
    path: Path,
    pbx: Pbx,
    zammad: ZammadSandbox,
    *,
    ping_interval: float = 1.0,
    ping_timeout: float = 2.0,
    zammad_timeout: float = 2.0,
    settle: float = 1.0,
    log_level: str = "debug",
) -> None:
    """Write the settings that join the two.

    `settle` is long enough for a real Asterisk that has many others beside it to tell who rings.
    """
    path.write_text(
        _SETTINGS.format(
            port=pbx.line.port,
            account=pbx.account,
            secret=pbx.secret,
            url=zammad.url,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            zammad_timeout=zammad_timeout,
            settle=settle,
            log_level=log_level,
        )
    )


class Bridge:
    """`ami2zammad run`, in as many processes one after the other as a test wants; get it with `of`.

    `starting` bounds how many processes start at a time, all over the tests: starting takes a second of CPU.
    """

    def __init__(self, config: Path, starting: asyncio.Semaphore, environment: Mapping[str, str]) -> None:
        self._config = config
        self._starting = starting
        self._environment = environment
        self._stack = contextlib.AsyncExitStack()
        self.processes: list[DoomedBridge] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def of(
        cls,
        config: Path,
        *,
        starting: asyncio.Semaphore | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Bridge]:
        """Have a bridge with these settings for the length of an `async with`; `start` starts it."""
        bridge = cls(config, starting or asyncio.Semaphore(1), environment or {})
        async with bridge._stack:
            yield bridge

    @property
    def now(self) -> DoomedBridge:
        """The present process, or the last."""
        return self.processes[-1]

    async def start(self) -> None:
        """Start a process and wait until it bridges."""
        async with self._starting:
            await self.spawn()
            await self.logged("bridge.started")

    async def spawn(self) -> None:
        """Start a process, and wait for nothing."""
        process = await self._stack.enter_async_context(DoomedBridge.run(self._config, self._environment))
        self.processes.append(process)

    async def logged(
        self, *events: str, matches: Callable[[dict[str, Any]], bool] = lambda _: True, after: int = 0
    ) -> dict[str, Any]:
        """Wait until the present process has logged one of *events* (beyond its first *after* lines)."""
        return await self.now.logged(*events, matches=matches, after=after, patience=PATIENCE)

    def lines(self) -> list[dict[str, Any]]:
        """Return what all processes have logged."""
        return [line for process in self.processes for line in process.lines]

    def about(self, call_ids: Iterable[str]) -> str:
        """Return what all processes have logged about these calls, and about what concerns all calls."""
        wanted = set(call_ids)
        texts = []
        for process in self.processes:
            texts.append(f"--- process {process.pid} ---")
            for text in process.raw:
                with contextlib.suppress(ValueError):
                    if json.loads(text).get("call_id", "") not in {"", *wanted}:
                        continue
                texts.append(text)
        return "\n".join(texts)

    def limit_files(self, size: int | None) -> None:
        """Let no file of the present process get any data beyond *size* bytes (None: let them again)."""
        hard = resource.prlimit(self.now.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.now.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
