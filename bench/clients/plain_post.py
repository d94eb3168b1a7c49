"""The shortest way from a socket to Zammad: whatever line comes in is posted, as a newCall, from an asyncio loop.

    python plain_post.py PORT URL [DATABASE]

Connects to PORT. With DATABASE each line is a row in SQLite, on the disk itself, before it is posted. What the bridge
adds to this way is what it knows of calls, and the order that it keeps.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp


def keeper(path: str) -> Callable[[str], None]:
    """Return what writes a row; SQLite with the settings that keep it when the power fails."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE line (id INTEGER PRIMARY KEY, body TEXT)")

    def keep(body: str) -> None:
        database.execute("INSERT INTO line (body) VALUES (?)", (body,))

    return keep


async def main() -> None:
    """Run."""
    port, url = int(sys.argv[1]), sys.argv[2]
    keep = keeper(sys.argv[3]) if len(sys.argv) > 3 else None  # noqa: PLR2004 -- it is the third
    thread = ThreadPoolExecutor(max_workers=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    posts: set[asyncio.Task[None]] = set()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def post(event: str, call_id: str) -> None:
            fields = {
                "event": event, "callId": call_id, "direction": "in", "from": "4917699999999", "to": "4930600100",
                "user": "Emma Taylor", "cause": "normalClearing",
            }  # fmt: skip
            if keep is not None:
                await asyncio.get_running_loop().run_in_executor(thread, keep, json.dumps(fields))
            async with session.post(url, json=fields, headers={"Accept": "application/json"}) as response:
                await response.read()

        print("ready", flush=True)
        while line := await reader.readline():
            event, call_id = line.decode().split()
            task = asyncio.create_task(post(event, call_id))
            posts.add(task)
            task.add_done_callback(posts.discard)
    writer.close()


asyncio.run(main())
