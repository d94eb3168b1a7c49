"""The bridge, all of it but Zammad: parses, tracks, writes its outbox and its log; deliveries go nowhere.

    python bridge.py PORT OUTBOX

OUTBOX "" keeps the outbox in memory. Says what it cost when the last call is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr

from ami2zammad import bridge
from ami2zammad.calls.decisions import Decision, Nothing
from ami2zammad.calls.events import CallEvent, Hangup
from ami2zammad.logs import configure_logging
from ami2zammad.settings import AsteriskSettings, OutboxSettings, Settings, ZammadSettings

LAST_CALL = "1999999999.1"


class Sink:
    """A Zammad that has everything at once."""

    trouble = ""

    def __init__(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 -- stands for the client
        self.delivered = 0
        self.over = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def prepare(self) -> None:
        """Load nothing."""

    async def deliver(self, event: CallEvent) -> Decision:
        """Take it."""
        self.delivered += 1
        if isinstance(event, Hangup) and event.call_id == LAST_CALL:
            self.over.set()
        return Nothing()


async def main() -> None:
    """Run."""
    port, outbox = int(sys.argv[1]), sys.argv[2]
    sink = Sink()
    # The bridge makes its client by itself, and has no other use for another.
    vars(bridge)["ZammadClient"] = lambda *_, **__: sink
    running = bridge.Bridge(
        Settings(
            # Pings are answered behind all that is poured.
            asterisk=AsteriskSettings(port=port, username="ami2zammad", secret=SecretStr("sandbox"), ping_timeout=300),
            zammad=ZammadSettings(url=SecretStr("http://127.0.0.1:9/api/v1/cti/token")),
            outbox=OutboxSettings(path=Path(outbox) if outbox else None),
        )
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(running.run(stop))
        before = time.process_time()
        print("ready", flush=True)
        await sink.over.wait()
        print(json.dumps({"cpu": time.process_time() - before, "told": sink.delivered}), flush=True)
        stop.set()


with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
    configure_logging(form="json", stream=nowhere)
    asyncio.run(main())
