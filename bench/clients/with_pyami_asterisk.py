"""pyami-asterisk (PyPI), with a callback that does nothing for every event.

python with_pyami_asterisk.py PORT
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from pyami_asterisk import AMIClient


def on_event(event: dict[str, Any]) -> None:
    """Take it."""
    if event.get("Event") == "BenchmarkEnd":
        print(json.dumps({}), flush=True)
        os._exit(0)  # it knows no other end


async def ready() -> None:
    """Say that it is logged in."""
    print("ready", flush=True)


client = AMIClient(host="127.0.0.1", port=int(sys.argv[1]), username="ami2zammad", secret="sandbox", ping_delay=0)
client.register_event(["*"], on_event)
client.create_asyncio_task([ready()])
client.connect()
