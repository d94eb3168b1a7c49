"""How long a call waits that asks first and gets `{}`: FastAGI request in, last answer out.

The bridge is a process of its own. The peer is a plain aiohttp POST of the same newCall to the same stand-in, from this
loop, the two in turn.
"""

from __future__ import annotations

import asyncio
import socket
import time

import aiohttp

from bench import processes
from bench.report import Report, Row, percentile
from bench.stand_ins import TimedPbx, TimedZammad

STEP = "asking"
CALLS, CALLS_QUICK = 500, 10
_CALLER, _DID = "4917699999999", "4930600100"


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked, posted = [], []
    settings = f'[control]\nlisten = "127.0.0.1:{port}"\n'
    async with (
        TimedPbx() as pbx,
        TimedZammad() as zammad,
        aiohttp.ClientSession() as session,
        processes.bridge(pbx.port, zammad.url, settings=settings),
    ):
        await pbx.asked("Status")
        for number in range(CALLS_QUICK if quick else CALLS):
            asked.append(await ask(pbx, port, f"1.{number}"))
            posted.append(await post(session, zammad.url, f"2.{number}"))
    for percent in (50.0, 99.0):
        report.rows.append(
            Row(
                STEP, f"a call that asks first waits: {percent:g} %", "ms", [percentile(asked, percent) * 1000],
                "aiohttp POST", [percentile(posted, percent) * 1000],
            )
        )  # fmt: skip


async def ask(pbx: TimedPbx, port: int, uniqueid: str) -> float:
    """Return the seconds that one call waits."""
    await pbx.emit(
        "Newchannel",
        {"Channel": "PJSIP/trunk-1", "ChannelState": "4", "Uniqueid": uniqueid, "Linkedid": uniqueid,
         "Context": "from-trunk", "Exten": _DID, "CallerIDNum": _CALLER},
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
    fields = {"event": "newCall", "callId": call_id, "direction": "in", "from": _CALLER, "to": _DID}
    began = time.perf_counter()
    async with session.post(url, json=fields, headers={"Accept": "application/json"}) as response:
        await response.read()
    return time.perf_counter() - began
