"""panoramisk as it comes, with a callback that does nothing for every event.

    python bare_panoramisk.py PORT [keep]

With `keep` it keeps the Newchannel of each channel until its Hangup.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

from panoramisk.manager import Manager


async def main() -> None:
    """Run."""
    logging.getLogger("panoramisk").setLevel(logging.CRITICAL)
    over = asyncio.Event()
    count = 0
    channels: dict[str, Any] = {}

    def on_event(_: Any, event: Any) -> None:  # noqa: ANN401 -- panoramisk has no types
        nonlocal count
        count += 1
        if event.event == "BenchmarkEnd":
            over.set()

    def on_channel(_: Any, event: Any) -> None:  # noqa: ANN401 -- as above
        if event.event == "Newchannel":
            channels[event.uniqueid] = event
        elif event.event == "Hangup":
            channels.pop(event.uniqueid, None)

    manager = Manager(
        loop=asyncio.get_running_loop(), host="127.0.0.1", port=int(sys.argv[1]), username="ami2zammad",
        secret="sandbox", ping_delay=3600,
    )  # fmt: skip
    manager.register_event("*", on_channel if sys.argv[2:] == ["keep"] else on_event)
    await manager.connect()
    while not manager.authenticated:  # noqa: ASYNC110 -- panoramisk tells nobody
        await asyncio.sleep(0.01)
    before = time.process_time()
    print("ready", flush=True)
    await over.wait()
    print(json.dumps({"cpu": time.process_time() - before, "told": count}), flush=True)
    manager.close()


asyncio.run(main())
