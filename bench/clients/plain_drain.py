"""Events out of an outbox's file to Zammad as fast as a few connections go, each call's in order: aiohttp, no more.

    python plain_drain.py OUTBOX URL CONNECTIONS

Says how long it took.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections import defaultdict

import aiohttp


async def main() -> None:
    """Run."""
    path, url, connections = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT family, call_id, kind, body FROM event ORDER BY id").fetchall()
    families: dict[str, list[dict[str, str]]] = defaultdict(list)
    for family, call_id, kind, body in rows:
        call = json.loads(body)
        fields = {
            "event": kind,
            "callId": call_id,
            "direction": call["direction"],
            "from": call["from"],
            "to": call["to"],
        }
        families[family].append(fields | ({"cause": call["cause"]} if "cause" in call else {}))
    waiting = iter(families.values())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def work() -> None:
            for events in waiting:
                for fields in events:
                    async with session.post(url, json=fields, headers={"Accept": "application/json"}) as response:
                        await response.read()

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


asyncio.run(main())
