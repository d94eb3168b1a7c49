"""The running bridge, as a process: what its port shows, and what systemd hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ami2zammad.bridge import Bridge
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import Fault, ZammadSandbox, _Failure
from ami2zammad.settings import (
    AsteriskSettings,
    ControlSettings,
    NumberSettings,
    OutboxSettings,
    Settings,
    ZammadSettings,
)
from tests.e2e.bridge_process import BridgeProcess
from tests.integration.control.test_screening import BLOCKED, Dialplan

RECORDINGS = Path(__file__).parents[2] / "recordings" / "22"
PATIENCE = 60.0
AMI_SECRET = "c0rrect-h0rse-battery"
OPS_TOKEN = "0123456789abcdef-ops"
ZAMMAD_TOKEN = "t0ken-of-zammad"


class Manager:
    """A service manager: a real datagram socket, in the file system or in the abstract namespace."""

    def __init__(self, folder: Path, *, abstract: bool) -> None:
        name = str(folder / "notify")
        self.address = f"@{name}" if abstract else name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{name}" if abstract else name)
        self.socket.setblocking(False)
        self.lines: list[str] = []

    def drain(self) -> list[str]:
        """Take in what has come; return it."""
        new: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                new += self.socket.recv(65536).decode().split("\n")
        self.lines += new
        return new

    async def until(self, wanted: Callable[[str], bool]) -> str:
        """Wait for a line that has not come yet; return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.drain():
                    if wanted(line):
                        return line
                readable = asyncio.Event()
                loop = asyncio.get_running_loop()
                loop.add_reader(self.socket, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self.socket)


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    one = Manager(tmp_path, abstract=request.param)
    monkeypatch.setenv("NOTIFY_SOCKET", one.address)
    yield one
    one.socket.close()


def configuration(pbx: PbxSandbox, zammad: ZammadSandbox, extra: str = "") -> str:
    return f"""
[asterisk]
port = {pbx.port}
username = "ami2zammad"
secret = "{AMI_SECRET}"
trunks = ["PJSIP/trunk*"]

[zammad]
url = "{zammad.url}"
timeout = 1

[calls]
settle = 1

[ops]
listen = "127.0.0.1:0"
token = "{OPS_TOKEN}"

[log]
format = "json"
{extra}
"""


class Running:
    """A bridge that runs as a process between two stand-ins, and its operations port."""

    def __init__(self, bridge: BridgeProcess, pbx: PbxSandbox, zammad: ZammadSandbox, port: int) -> None:
        self.bridge = bridge
        self.pbx = pbx
        self.zammad = zammad
        self.port = port
        self.seen: list[str] = []

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            text = await response.text()
        self.seen.append(text)
        return response.status, text

    async def report(self) -> dict[str, Any]:
        """Return what /status.json says."""
        report: dict[str, Any] = json.loads((await self.get("/status.json"))[1])
        return report

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the report is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while not wanted(report := await self.report()):  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.05)
        return report

    async def metric(self, line: str) -> float:
        """Return a metric's value by its name and labels as written."""
        text = (await self.get("/metrics"))[1]
        (value,) = [
            one.rpartition(" ")[2] for one in text.splitlines() if one.rpartition(" ")[0] == f"ami2zammad_{line}"
        ]
        return float(value)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    async with PbxSandbox(secret=AMI_SECRET) as pbx, ZammadSandbox(token=ZAMMAD_TOKEN) as zammad:
        config = folder / "ami2zammad.toml"
        config.write_text(configuration(pbx, zammad), encoding="utf-8")
        async with BridgeProcess.run(config) as bridge:
            port = (await bridge.logged("ops.listening"))["port"]
            await bridge.logged("ami.snapshot")
            yield Running(bridge, pbx, zammad, port)


async def test_a_call_is_seen_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    begin = recording.index(b"Event: Newchannel")
    end = recording.index(b"Event: HangupRequest")
    async with running(tmp_path) as one:
        report = await one.report()
        assert (report["ready"], report["live_calls"], report["asterisk"]["reconnects"]) == (True, 0, 0)
        assert report["asterisk"]["address"] == f"127.0.0.1:{one.pbx.port}"
        assert report["zammad"]["address"] == one.zammad.base_url
        await one.pbx.send(recording[begin:end])
        report = await one.until(lambda report: report["calls"] and report["calls"][0]["state"] == "answered")
        (call,) = report["calls"]
        assert (call["direction"], call["from"], call["to"], call["users"]) == (
            "in", "4917699999•••", "4930600•••", ["Emma Taylor"],
        )  # fmt: skip
        assert "Emma Taylor" in (await one.get("/"))[1]
        assert await one.metric("calls_live") == 1
        await one.pbx.send(recording[end:])
        report = await one.until(lambda report: len(report["deliveries"]) == 3)
        assert [delivery["kind"] for delivery in report["deliveries"]] == ["hangup", "answer", "newCall"]
        assert (report["live_calls"], report["outbox"]["waiting"]) == (0, 0)
        assert await one.metric('calls_total{direction="in",outcome="normalClearing"}') == 1
        assert await one.metric('deliveries_total{kind="newCall",result="delivered"}') == 1
        assert await one.metric('delivery_seconds_count{kind="answer"}') == 1
        assert await one.metric("ami_signals_total") > 10


async def test_what_is_wrong_is_said_with_what_to_do_and_without_secrets(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        assert await one.get("/readyz") == (200, '{"ready": true, "faults": []}')
        one.zammad.tokens = {"another"}
        await one.pbx.play(RECORDINGS / "in_busy.ami")
        report = await one.until(lambda report: not report["zammad"]["reachable"])
        assert [fault["part"] for fault in report["faults"]] == ["zammad"]
        assert "zammad.url" in report["faults"][0]["remedy"]
        assert report["outbox"]["waiting"] > 0
        assert report["failures"][0]["reason"]
        assert await one.metric('delivery_attempts_failed_total{kind="newCall"}') >= 1
        one.pbx.greeting = b"SSH-2.0-OpenSSH\r\n"
        one.pbx.cut()
        await one.until(lambda report: "asterisk.port" in report["asterisk"]["remedy"])
        status, text = await one.get("/readyz")
        assert status == 503
        assert [fault["part"] for fault in json.loads(text)["faults"]] == ["asterisk", "zammad"]
        assert await one.metric("ready") == 0
        one.pbx.greeting = b"Asterisk Call Manager/11.0.0\r\n"
        report = await one.until(lambda report: report["asterisk"]["connected"])
        assert (report["asterisk"]["reconnects"], report["asterisk"]["problem"]) == (1, "")
        assert (await one.get("/healthz"))[0] == 200
        await one.get("/")
        for secret in (AMI_SECRET, OPS_TOKEN, ZAMMAD_TOKEN):
            assert all(secret not in text for text in [*one.seen, *one.bridge.raw])
        # So that the bridge need not wait for what it cannot deliver.
        one.zammad.tokens = {ZAMMAD_TOKEN}


async def test_an_event_that_zammad_will_never_take_is_a_failure_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: ZammadSandbox, __: dict[str, object]) -> NoReturn:
        raise _Failure(422, "Attribute 'from' required!")

    async with running(tmp_path) as one:
        one.zammad.fail(Fault.ERROR, times=1)
        await one.pbx.play(RECORDINGS / "in_busy.ami")
        report = await one.until(lambda report: len(report["deliveries"]) == 2)
        assert [(failure["kind"], failure["refused"]) for failure in report["failures"]] == [("newCall", False)]
        monkeypatch.setattr(ZammadSandbox, "_take", refuse)
        await one.pbx.play(RECORDINGS / "in_cancel.ami")
        report = await one.until(lambda report: len(report["failures"]) == 2)
        assert (report["failures"][0]["kind"], report["failures"][0]["refused"]) == ("newCall", True)
        assert "'from' required" in report["failures"][0]["reason"]
        assert await one.metric('deliveries_total{kind="newCall",result="refused"}') == 1
        assert await one.metric('delivery_attempts_failed_total{kind="newCall"}') == 2


async def test_systemd_hears_when_it_is_ready_how_it_is_and_that_it_ends(manager: Manager, tmp_path: Path) -> None:
    recording = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
    async with PbxSandbox(secret=AMI_SECRET) as pbx, ZammadSandbox(token=ZAMMAD_TOKEN) as zammad:
        config = tmp_path / "ami2zammad.toml"
        config.write_text(configuration(pbx, zammad), encoding="utf-8")
        pbx.greeting = None
        async with BridgeProcess.run(config) as bridge:
            await manager.until(lambda line: line.startswith("STATUS=not connected to 127.0.0.1:"))
            assert "READY=1" not in manager.lines
            await pbx.wait_for(lambda: pbx.connections > 0)
            pbx.greeting = b"Asterisk Call Manager/11.0.0\r\n"
            pbx.cut()
            await manager.until(lambda line: line == "READY=1")
            await bridge.logged("ami.snapshot")
            await pbx.send(recording[recording.index(b"Event: Newchannel") : recording.index(b"Event: HangupRequest")])
            await manager.until(lambda line: line.endswith(", 1 call, 0 waiting for Zammad"))
            # No watchdog was asked for.
            assert "WATCHDOG=1" not in manager.lines
            await pbx.send(recording[recording.index(b"Event: HangupRequest") :])
            await manager.until(lambda line: line.endswith(", 0 calls, 0 waiting for Zammad"))
        manager.drain()
        assert manager.lines[-2:] == ["STOPPING=1", "STATUS=stopping: delivering what is left"]
        assert manager.lines.count("READY=1") == 1


async def test_a_process_that_stands_still_feeds_no_watchdog(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    async with running(tmp_path) as one:
        for _ in range(3):
            await manager.until(lambda line: line == "WATCHDOG=1")
        one.bridge.send_signal(signal.SIGSTOP)
        await stopped(one.bridge.pid)
        manager.drain()
        await asyncio.sleep(1.2)
        assert manager.drain() == []
        one.bridge.send_signal(signal.SIGCONT)
        await manager.until(lambda line: line == "WATCHDOG=1")


async def stopped(pid: int) -> None:
    """Wait until a process stands still."""
    async with asyncio.timeout(PATIENCE):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_watchdog_meant_for_another_process_is_left_alone(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    async with running(tmp_path):
        await manager.until(lambda line: line.startswith("STATUS=connected"))
    manager.drain()
    assert "WATCHDOG=1" not in manager.lines


async def test_a_loop_that_runs_while_calls_are_not_tracked_feeds_no_watchdog(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        bridge = Bridge(
            Settings(
                asterisk=AsteriskSettings(port=pbx.port, username="ami2zammad", secret=SecretStr("sandbox")),
                zammad=ZammadSettings(url=SecretStr(zammad.url)),
                outbox=OutboxSettings(path=None),
            )
        )
        hold = asyncio.Event()
        held = asyncio.Event()

        async def taken_in() -> None:
            held.set()
            await hold.wait()

        stop = asyncio.Event()
        with capture_logs() as logs:
            async with asyncio.TaskGroup() as group:
                group.create_task(bridge.run(stop))
                await manager.until(lambda line: line == "WATCHDOG=1")
                await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
                monkeypatch.setattr(bridge._control, "signals_taken_in", taken_in)
                await pbx.emit("Hangup", {"Uniqueid": "1.1", "Linkedid": "1.1", "Cause": "16", "Channel": "PJSIP/1-1"})
                await held.wait()
                async with asyncio.timeout(PATIENCE):
                    while not any(line["event"] == "notify.stalled" for line in logs):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                manager.drain()
                await asyncio.sleep(1.2)
                assert "WATCHDOG=1" not in manager.drain()
                hold.set()
                await manager.until(lambda line: line == "WATCHDOG=1")
                stop.set()
        assert [line["event"] for line in logs].count("notify.stalled") == 1


def test_without_the_port_nothing_of_it_is_loaded() -> None:
    code = """
import sys
import time
from pydantic import SecretStr
from ami2zammad.bridge import Bridge
from ami2zammad.settings import AsteriskSettings, OpsSettings, OutboxSettings, Settings, ZammadSettings
asterisk = AsteriskSettings(username="x", secret=SecretStr("x"))
zammad = ZammadSettings(url=SecretStr("http://127.0.0.1:9/api/v1/cti/x"))
for listen in ("", "127.0.0.1:0"):
    Bridge(Settings(asterisk=asterisk, zammad=zammad, outbox=OutboxSettings(path=None), ops=OpsSettings(listen=listen)))
    print([name in sys.modules for name in ("prometheus_client", "ami2zammad.ops.pages", "ami2zammad.ops.http")])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[False, False, False]\n[True, True, True]\n"


async def test_what_becomes_of_asking_is_counted() -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        bridge = Bridge(
            Settings(
                asterisk=AsteriskSettings(port=pbx.port, username="ami2zammad", secret=SecretStr("sandbox")),
                zammad=ZammadSettings(url=SecretStr(zammad.url)),
                outbox=OutboxSettings(path=None),
                numbers=NumberSettings(outbound_prefix="0"),
                control=ControlSettings(listen="127.0.0.1:0", decision_timeout=0.5),
            )
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(bridge.run(stop))
            await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
            assert bridge.fast_agi_port is not None
            dialplan = Dialplan(pbx, zammad, bridge.fast_agi_port)
            zammad.block(BLOCKED)
            zammad.route("4922*", "496990009111")
            await dialplan.ask(await dialplan.caller())
            await dialplan.ask(await dialplan.caller(BLOCKED))
            await dialplan.ask(await dialplan.agent(), "0492214710334")
            await dialplan.ask(await dialplan.agent(), "112")
            zammad.fail(Fault.HANG, times=1)
            await dialplan.ask(await dialplan.caller())
            stop.set()
        counts = {name: count for (name,), count in bridge._activity.decisions.counts.items() if count}
        assert counts == {"nothing": 1, "reject": 1, "dial": 1, "emergency": 1, "timeout": 1}


async def test_systemd_hears_of_a_reload(manager: Manager, tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        await manager.until(lambda line: line == "READY=1")
        one.bridge.send_signal(signal.SIGHUP)
        await manager.until(lambda line: line == "RELOADING=1")
        await manager.until(lambda line: line == "READY=1")
        (at,) = [line for line in manager.lines if line.startswith("MONOTONIC_USEC=")]
        assert int(at.partition("=")[2]) <= time.monotonic() * 1_000_000
        # One that cannot be used ends as well.
        (tmp_path / "ami2zammad.toml").write_text("[", encoding="utf-8")
        one.bridge.send_signal(signal.SIGHUP)
        await manager.until(lambda line: line == "RELOADING=1")
        await manager.until(lambda line: line == "READY=1")


async def test_what_waits_on_disk_is_seen_with_its_age(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        report = await one.report()
        assert (report["outbox"]["durable"], report["outbox"]["oldest_seconds"]) == (True, None)
        one.zammad.fail(Fault.UNAVAILABLE)
        await one.pbx.play(RECORDINGS / "in_busy.ami")
        report = await one.until(lambda report: (report["outbox"]["oldest_seconds"] or 0) > 0)
        assert report["outbox"]["waiting"] == 2
        assert await one.metric("outbox_oldest_seconds") > 0
        one.zammad.heal()
        await one.until(lambda report: report["outbox"]["waiting"] == 0)
