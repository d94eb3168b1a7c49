"""panoramisk asks for all channels, as it comes.

    python list_channels.py PORT

Says how long the answer took, from the connection on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from panoramisk.manager import Manager


async def main() -> None:
    """Run."""
    logging.getLogger("panoramisk").setLevel(logging.CRITICAL)
    manager = Manager(
        loop=asyncio.get_running_loop(), host="127.0.0.1", port=int(sys.argv[1]), username="ami2zammad",
        secret="sandbox", ping_delay=3600,
    )  # fmt: skip
    began = time.perf_counter()
    await manager.connect()
    answer = await manager.send_action({"Action": "Status"}, as_list=True)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "messages": len(answer)}), flush=True)
    manager.close()


asyncio.run(main())
