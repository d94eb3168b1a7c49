"""The shortest way from a socket to Zammad: whatever line comes in is posted, as a newCall, from an asyncio loop.

    python plain_post.py PORT URL

Connects to PORT. What the bridge adds to this way is what it knows of calls, and the order that it keeps.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp


async def main() -> None:
    """Run."""
    port, url = int(sys.argv[1]), sys.argv[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    posts: set[asyncio.Task[None]] = set()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as session:

        async def post(event: str, call_id: str) -> None:
            fields = {
                "event": event, "callId": call_id, "direction": "in", "from": "4917699999999", "to": "4930600100",
                "user": "Emma Taylor", "cause": "normalClearing",
            }  # fmt: skip
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
