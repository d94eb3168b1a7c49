"""How long a call waits that asks first and gets `{}`: FastAGI request in, last answer out.

    python bench/asking.py [CALLS]

The bridge, a stand-in for the PBX and one for Zammad run in this process, over loopback sockets. The peer is a plain
aiohttp POST of the same newCall to the same stand-in, from the same loop, the two in turn.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import time

import aiohttp
import structlog
from pydantic import SecretStr

from ami2zammad.bridge import Bridge
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from ami2zammad.settings import AsteriskSettings, ControlSettings, OutboxSettings, Settings, ZammadSettings

CALLER = "4917699999999"
DID = "4930600100"


async def main() -> None:
    """Measure and print."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad, aiohttp.ClientSession() as session:
        bridge = Bridge(
            Settings(
                asterisk=AsteriskSettings(port=pbx.port, username="ami2zammad", secret=SecretStr("sandbox")),
                zammad=ZammadSettings(url=SecretStr(zammad.url)),
                outbox=OutboxSettings(path=None),
                control=ControlSettings(listen="127.0.0.1:0"),
            )
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(bridge.run(stop))
            await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
            asked, posted = [], []
            for number in range(calls):
                asked.append(await ask(pbx, bridge.fast_agi_port or 0, f"1.{number}"))
                posted.append(await post(session, zammad.url, f"2.{number}"))
            stop.set()
    print(f"{calls} calls, milliseconds: median, 99 %")
    print(f"asking first:  {figures(asked)}")
    print(f"a plain POST:  {figures(posted)}")
    print(f"ratio of medians: {statistics.median(asked) / statistics.median(posted):.1f}")


async def ask(pbx: PbxSandbox, port: int, uniqueid: str) -> float:
    """Return the seconds that one call waits."""
    await pbx.emit(
        "Newchannel",
        {"Channel": "PJSIP/trunk-1", "ChannelState": "4", "Uniqueid": uniqueid, "Linkedid": uniqueid,
         "Context": "from-trunk", "Exten": DID, "CallerIDNum": CALLER},
    )  # fmt: skip
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"agi_network: yes\nagi_network_script: screen\nagi_uniqueid: {uniqueid}\n\n".encode())
    while await reader.readline():
        writer.write(b"200 result=1\n")
    seconds = time.perf_counter() - began
    writer.close()
    await writer.wait_closed()
    await pbx.emit("Hangup", {"Uniqueid": uniqueid, "Channel": "PJSIP/trunk-1", "Cause": "16"})
    return seconds


async def post(session: aiohttp.ClientSession, url: str, call_id: str) -> float:
    """Return the seconds that one POST takes."""
    fields = {"event": "newCall", "callId": call_id, "direction": "in", "from": CALLER, "to": DID}
    began = time.perf_counter()
    async with session.post(url, json=fields, headers={"Accept": "application/json"}) as response:
        await response.read()
    return time.perf_counter() - began


def figures(seconds: list[float]) -> str:
    """Return median and 99th percentile in milliseconds."""
    return f"{statistics.median(seconds) * 1000:6.2f} {statistics.quantiles(seconds, n=100)[98] * 1000:6.2f}"


if __name__ == "__main__":
    asyncio.run(main())
