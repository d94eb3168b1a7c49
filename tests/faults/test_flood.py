"""Ten thousand AMI events a second for a minute, with calls that end among them, and a Zammad that is slow."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from ami2zammad.sandbox.zammad import Fault, ZammadSandbox
from tests.e2e.config import PHONES
from tests.e2e.scenarios import missed
from tests.faults.bridges import PATIENCE, Bridge, write_settings
from tests.faults.ledger import Placed, tally
from tests.faults.pbxes import DIDS, SimulatedPbx, Talk, rang
from tests.faults.report import Report
from tests.ports import lasting_port

EVENTS_PER_SECOND = 10_000
SECONDS = 60.0
WARM = 10.0
"""Seconds after which everything that is made once has been made."""

CALLS_PER_SECOND = 10
REPLY = 0.4
"""Seconds that each reply of Zammad takes: eight at a time are 20 events a second, the calls give 25 to 30."""

BYTES_PER_EVENT = 32
"""How much the bridge may grow with each event of the flood: less than the smallest thing that could be kept of it (an
empty bytes object has 33 bytes). The calls that Zammad has not taken yet are in it too: some hundred, a few KB each."""

INTAKE = 25_000_000
"""Bytes of the 50,000 signals that may wait on top of that, where the bridge is slower than the flood."""

BATCHES_PER_SECOND = 50

_CHANNEL = (
    "Channel: {channel}\r\nChannelState: 6\r\nChannelStateDesc: Up\r\nCallerIDNum: 4917600000000\r\n"
    "CallerIDName: <unknown>\r\nConnectedLineNum: 100\r\nConnectedLineName: Emma Taylor\r\nLanguage: en\r\n"
    "AccountCode: \r\nContext: from-trunk\r\nExten: 4930600100\r\nPriority: 1\r\nUniqueid: {uniqueid}\r\n"
    "Linkedid: {uniqueid}\r\n"
)
_MEMBER = (
    "Event: QueueMemberStatus\r\nPrivilege: agent,all\r\nQueue: support\r\nMemberName: Agent {n}\r\n"
    "Interface: PJSIP/{n}\r\nStateInterface: PJSIP/{n}\r\nMembership: static\r\nPenalty: 0\r\nCallsTaken: {n}\r\n"
    "LastCall: 0\r\nLastPause: 0\r\nLoginTime: 1795300977\r\nInCall: 0\r\nStatus: 2\r\nPaused: 0\r\nPausedReason: \r\n"
    "Ringinuse: 0\r\nWrapuptime: 0\r\n\r\n"
)
_NOISE = (
    "Event: DeviceStateChange\r\nPrivilege: call,all\r\nDevice: PJSIP/{n}\r\nState: INUSE\r\n\r\n",
    _MEMBER,
    "Event: NewConnectedLine\r\nPrivilege: call,all\r\n" + _CHANNEL + "\r\n",
    # Those that the bridge reads: of channels that it does not know, and of channels that are created and go.
    "Event: Newstate\r\nPrivilege: call,all\r\n" + _CHANNEL + "\r\n",
    "Event: Newchannel\r\nPrivilege: call,all\r\n" + _CHANNEL.replace("from-trunk", "elsewhere") + "\r\n",
    "Event: Hangup\r\nPrivilege: call,all\r\n" + _CHANNEL + "Cause: 16\r\nCause-txt: Normal Clearing\r\n\r\n",
)


def noise(number: int) -> Iterator[bytes]:
    """Give endless batches of `number` events; no channel comes twice."""
    for start in itertools.count(step=number):
        yield "".join(
            _NOISE[n % len(_NOISE)].format(
                n=n % 1000, channel=f"PJSIP/{n // 6 % 500}-{n // 6:08x}", uniqueid=f"1600000000.{n // 6}"
            )
            for n in range(start, start + number)
        ).encode()


def rss(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


class Flood:
    """The events, and how fast they went."""

    def __init__(self, pbx: SimulatedPbx) -> None:
        self._pbx = pbx
        self.sent = 0
        self.seconds = 0.0

    async def run(self) -> None:
        """Send events for `SECONDS`; slower where the bridge does not read as fast."""
        batch = EVENTS_PER_SECOND // BATCHES_PER_SECOND
        began = time.monotonic()
        for number, data in enumerate(noise(batch)):
            await asyncio.sleep(began + number / BATCHES_PER_SECOND - time.monotonic())
            await self._pbx.send(data)
            self.sent += batch
            self.seconds = time.monotonic() - began
            if self.seconds >= SECONDS:
                return


async def calls(pbx: SimulatedPbx, placed: list[Placed]) -> None:
    """Place calls until cancelled; each third is given up while it rings."""
    talks: list[Talk] = []
    for number in itertools.count():
        await asyncio.sleep(1 / CALLS_PER_SECOND)
        caller = f"4917{number:09d}"
        talk = await pbx.ring(caller, "100")
        if number % 3:
            await talk.answer()
            placed.append(rang(talk, "answered", caller, "100"))
        else:
            entry = missed("cancel", PHONES["100"], to=DIDS["100"], caller=caller)
            placed.append(Placed("given up", talk.call_id, (entry,)))
        talks.append(talk)
        if len(talks) > 3 * CALLS_PER_SECOND:
            await talks.pop(0).hang_up()


async def test_a_flood_of_events_neither_fills_memory_nor_drowns_a_call(folder: Path, report: Report) -> None:
    async with SimulatedPbx.start() as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        settings = folder / "ami2zammad.toml"
        write_settings(settings, pbx, zammad, settle=0.05, log_level="info", ping_interval=10, ping_timeout=30)
        async with Bridge.of(settings) as bridge:
            await bridge.start()
            await bridge.logged("ami.snapshot")
            zammad.fail(Fault.SLOW, seconds=REPLY)
            placed: list[Placed] = []
            flood = Flood(pbx)
            flowing = asyncio.create_task(calls(pbx, placed))
            flooding = asyncio.create_task(flood.run())
            sizes: list[int] = []
            while not flooding.done():
                await asyncio.wait([flooding], timeout=1.0)
                sizes.append(rss(bridge.now.pid))
            await flooding
            flowing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flowing
            waiting = len(placed) - sum(row.state == "hangup" for row in zammad.log)
            for talk in list(pbx.calls.live.values()):
                await talk.hang_up()
            zammad.heal()
            ids = {call.call_id for call in placed}

            def everything_over(z: ZammadSandbox) -> bool:
                return {row.call_id for row in z.log if row.state == "hangup"} >= ids

            with contextlib.suppress(TimeoutError):  # then the tally says what is missing
                await zammad.wait_for(everything_over, PATIENCE)
            await bridge.now.stop()
            result = tally(placed, zammad.log, zammad.requests)
            rate = flood.sent / flood.seconds
            warm = sizes[: int(WARM)][-1]
            end = statistics.median(sizes[-10:])
            report.add_trial(
                "a flood of events while Zammad is slow",
                result,
                events_per_second=f"{rate:,.0f}",
                seconds=f"{flood.seconds:.0f}",
                RSS_after_warm_up=f"{warm / 1e6:.0f} MB",
                RSS_at_the_end=f"{end / 1e6:.0f} MB",
            )
            print(f"{rate:,.0f} events/s, RSS {[round(one / 1e6, 1) for one in sizes]} MB, {waiting} calls not over")
            assert not [line for line in bridge.lines() if line["event"] == "ami.disconnected"]
            assert result.wrong == []
            full = any(line["event"] == "ami.intake_full" for line in bridge.lines())
            after_warm_up = flood.sent * (1 - WARM / flood.seconds)
            assert end - warm < BYTES_PER_EVENT * after_warm_up + (INTAKE if full else 0)
            # Else Zammad was not slow enough for anything to wait.
            assert waiting > 3 * CALLS_PER_SECOND + 50
