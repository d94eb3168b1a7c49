"""A real Asterisk 22 and as many calls a second as it can take; what the bridge takes of the processor meanwhile.

SIPp plays the trunk's far side and a phone. The rate is raised until calls fail or Asterisk falls behind; the last rate
at which all went well counts. Needs root on Debian, for the tests' chroot and for SIPp.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.processes import NotMeasured, Program
from bench.report import Report, Row
from bench.stand_ins import TimedZammad
from tests.e2e import rootfs
from tests.e2e.asterisk import PBX_HOST, PHONE_HOST, TRUNK_HOST, Asterisk, AsteriskError

STEP = "real Asterisk"
RATES, RATES_QUICK = (20, 40, 80, 120, 160, 200, 250, 320), (5,)
SECONDS, SECONDS_QUICK = 6.0, 1.0
TALK_MS = 500
SLOWER_THAN_ASKED = 1.15
"""From this many times the planned time on, Asterisk (or SIPp) did not keep up."""
_SCENARIOS = Path(__file__).parent / "sipp"
_PHONE, _DID = "100", "4930600100"
# Each call takes four ports; SIPp's own are apart from these.
_RTP = "[general]\nrtpstart=20000\nrtpend=29999\nstrictrtp=no\n"
_MEDIA_PORTS = {"caller": "31000", "phone": "32000"}
_GIVE_UP = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one rate cost. `bridge` and `asterisk` are shares of one core."""

    rate: float
    bridge: float
    asterisk: float


async def measure(report: Report, *, quick: bool) -> None:
    """Add the rows."""
    await _have_sipp()
    rates, seconds = (RATES_QUICK, SECONDS_QUICK) if quick else (RATES, SECONDS)
    loads: list[Load] = []
    try:
        async with Asterisk.start("22", files={"rtp.conf": _RTP}) as pbx, TimedZammad() as zammad, _phone(pbx):
            account = f'username = "least", secret = "{pbx.secrets["least"]}"'
            async with processes.bridge(pbx.ami_port, zammad.url, account=account) as bridge:
                await _connected(pbx)
                for rate in rates:
                    load = await _load(pbx, zammad, bridge, rate, int(rate * seconds))
                    if load is None:
                        break
                    loads.append(load)
    except (rootfs.RootfsUnavailable, AsteriskError) as problem:
        raise NotMeasured(str(problem)) from None
    if not loads:
        raise NotMeasured(f"not even {rates[0]} calls/s went well")
    best = loads[-1]
    report.rows += [
        Row(STEP, "calls/s with all of them well in Zammad", "calls/s", [best.rate]),
        Row(STEP, "share of a core meanwhile", "%", [best.bridge * 100], "Asterisk itself", [best.asterisk * 100]),
        Row(
            STEP, "processor time of a call", "ms", [best.bridge / best.rate * 1000], "Asterisk itself",
            [best.asterisk / best.rate * 1000],
        ),
    ]  # fmt: skip


async def _load(pbx: Asterisk, zammad: TimedZammad, bridge: Program, rate: int, count: int) -> Load | None:
    """Place `count` calls, `rate` a second; None if that did not go well.

    Raises `NotMeasured` if calls went well on the telephone and not in Zammad.
    """
    told = len(zammad.log)
    used, asterisk, began = bridge.cpu(), processes.cpu_of(pbx.pid), time.perf_counter()
    well = await _call(pbx, rate, count)
    seconds = time.perf_counter() - began
    if not well or seconds > (count / rate + TALK_MS / 1000) * SLOWER_THAN_ASKED + 1:
        return None
    try:
        await zammad.wait_for(
            lambda one: sum(row.changes == ["newCall", "answer", "hangup"] for row in one.log[told:]) == count, _GIVE_UP
        )
    except TimeoutError:
        raise NotMeasured(f"of {count} calls, Zammad has {len(zammad.log) - told}") from None
    # Whatever comes after the last call is paid for too.
    return Load(count / seconds, (bridge.cpu() - used) / seconds, (processes.cpu_of(pbx.pid) - asterisk) / seconds)


async def _call(pbx: Asterisk, rate: int, count: int) -> bool:
    """Place calls; say whether all of them went well."""
    command = _sipp(
        "caller", TRUNK_HOST, pbx.trunk_port, "-s", _DID, "-r", str(rate), "-m", str(count), "-d", str(TALK_MS),
        "-l", str(count), "-timeout", str(int(_GIVE_UP)), f"{PBX_HOST}:{pbx.sip_port}",
    )  # fmt: skip
    async with _quietly(command) as process:
        return await process.wait() == 0


@contextlib.asynccontextmanager
async def _phone(pbx: Asterisk) -> AsyncIterator[None]:
    async with _quietly(_sipp("phone", PHONE_HOST, pbx.phone_ports[_PHONE])):
        yield


def _sipp(scenario: str, host: str, port: int, *more: str) -> list[str]:
    return [
        "sipp", "-sf", str(_SCENARIOS / f"{scenario}.xml"), "-i", host, "-p", str(port), "-nostdin",
        "-mp", _MEDIA_PORTS[scenario], *more,
    ]  # fmt: skip


@contextlib.asynccontextmanager
async def _quietly(command: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _connected(pbx: Asterisk) -> None:
    """Wait until the bridge is logged in."""
    async with asyncio.timeout(_GIVE_UP):
        while "least" not in await pbx.cli("manager show connected"):  # noqa: ASYNC110 -- Asterisk tells nobody
            await asyncio.sleep(0.05)


async def _have_sipp() -> None:
    reason = rootfs.obstacle()
    if reason is not None:
        raise NotMeasured(reason)
    if shutil.which("sipp") is not None:
        return
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", "sip-tester"],
    ):
        async with _quietly(command) as process:
            if await process.wait():
                raise NotMeasured("SIPp (Debian: sip-tester) cannot be installed here")
