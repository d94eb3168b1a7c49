"""The bridge as its own process between two sandboxes: what outlives it, and what it reads again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ami2zammad.outbox.records import to_text
from ami2zammad.outbox.store import Row, Store, Transaction
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.bridge_process import PATIENCE, BridgeProcess
from tests.ports import lasting_port
from tests.unit.zammad.samples import new_call

RECORDINGS = Path(__file__).parents[1] / "recordings" / "22"
RECORDING = (RECORDINGS / "in_answer_caller_hangs_up.ami").read_bytes()
CALL = RECORDING[RECORDING.index(b"Event: Newchannel") :]
ANSWERED, _, _END = CALL.partition(b"Event: HangupRequest")
END = b"Event: HangupRequest" + _END

CONFIGURATION = """
[asterisk]
port = {pbx}
username = "ami2zammad"
secret = "sandbox"
trunks = ["PJSIP/trunk*"]

[zammad]
url = "{url}"
timeout = 2

[outbox]
shutdown_timeout = 0.2

[log]
format = "json"
level = "debug"
"""


class Scene:
    """A PBX, a Zammad, and the settings of a bridge between them."""

    def __init__(self, pbx: PbxSandbox, zammad: ZammadSandbox, folder: Path) -> None:
        self.pbx = pbx
        self.zammad = zammad
        self.config = folder / "ami2zammad.toml"
        self.outbox = folder / "outbox.db"
        self.write()

    def write(self, more: str = "", url: str = "") -> None:
        self.config.write_text(CONFIGURATION.format(pbx=self.pbx.port, url=url or self.zammad.url) + more)

    @contextlib.asynccontextmanager
    async def bridge(self) -> AsyncIterator[BridgeProcess]:
        """Run the bridge until the end of an `async with`; it must end well."""
        async with BridgeProcess.run(self.config) as bridge:
            await bridge.logged("ami.snapshot")
            yield bridge

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run another command with the same settings; return its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", *arguments, "--config", str(self.config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "AMI2ZAMMAD_OUTBOX__PATH": str(self.outbox)},
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def list_channels(self, linkedid: str) -> None:
        """Let the PBX say of the channels of the answered call that they are still there."""
        self.pbx.channels.clear()
        for message in ANSWERED.decode().split("\r\n\r\n"):
            headers = dict(line.partition(": ")[::2] for line in message.split("\r\n"))
            if headers.get("Event") == "Newchannel":
                self.pbx.channels[headers["Uniqueid"]] = {
                    "Channel": headers["Channel"], "Uniqueid": headers["Uniqueid"], "Linkedid": linkedid,
                    "ChannelState": "6", "Context": headers["Context"], "Exten": "4930600100", "BridgeID": "b",
                }  # fmt: skip


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with PbxSandbox() as pbx, ZammadSandbox(port=lasting_port()) as zammad:
        yield Scene(pbx, zammad, tmp_path)


async def test_a_call_that_goes_on_over_a_restart_of_the_bridge_is_one_entry(scene: Scene) -> None:
    zammad = scene.zammad
    async with scene.bridge():
        await scene.pbx.send(ANSWERED)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", PATIENCE)
    scene.list_channels(zammad.log[0].call_id)
    async with scene.bridge() as bridge:
        assert (await bridge.logged("calls.resumed"))["live_calls"] == 1
        await scene.pbx.send(END)
        await zammad.wait_for(lambda z: z.log[0].state == "hangup", PATIENCE)
    assert [row.changes for row in zammad.log] == [["newCall", "answer", "hangup"]]
    assert zammad.log[0].cause == "normalClearing"


async def test_a_call_that_ended_while_the_bridge_was_away_gets_its_hangup(scene: Scene) -> None:
    zammad = scene.zammad
    async with scene.bridge():
        await scene.pbx.send(ANSWERED)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", PATIENCE)
    async with scene.bridge():
        await zammad.wait_for(lambda z: z.log[0].state == "hangup", PATIENCE)
    assert zammad.log[0].cause == "normalClearing"
    # It is over: the next start says nothing of it.
    async with scene.bridge() as bridge:
        pass
    assert not [line for line in bridge.lines if line["event"] in {"calls.resumed", "call.ended"}]


async def test_what_could_not_be_delivered_is_looked_at_and_goes_out_at_the_next_start(scene: Scene) -> None:
    zammad = scene.zammad
    await zammad.down()
    async with scene.bridge() as bridge:
        await scene.pbx.send(CALL)
        await bridge.logged("call.ended")
    stopped = await bridge.logged("bridge.stopped")
    assert stopped["undelivered"] == 3
    code, text = await scene.command("outbox")
    assert code == 0
    assert "3 waiting for Zammad, 0 set aside" in text
    code, text = await scene.command("outbox", "--json")
    listed = json.loads(text)
    assert [one["kind"] for one in listed] == ["newCall", "answer", "hangup"]
    assert listed[0]["reason"] == "Nothing listens at the host and port of zammad.url."
    await zammad.up()
    async with scene.bridge():
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", PATIENCE)
    assert zammad.log[0].changes == ["newCall", "answer", "hangup"]
    code, text = await scene.command("outbox")
    assert "0 waiting for Zammad, 0 set aside" in text


async def test_two_bridges_refuse_each_other(scene: Scene) -> None:
    async with scene.bridge():
        code, text = await scene.command("run")
    assert code == 2
    failed = next(line for line in map(json.loads, text.splitlines()) if line["event"] == "bridge.failed")
    assert "in use by another ami2zammad (process " in failed["problem"]
    assert "outbox.path" in failed["problem"]


async def test_settings_are_read_again_at_sighup_without_dropping_a_call(scene: Scene) -> None:
    zammad = scene.zammad
    async with scene.bridge() as bridge, ZammadSandbox(token="another-token-2") as other:
        await scene.pbx.send(ANSWERED)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", PATIENCE)
        agents = '[[agents]]\nextension = "100"\nname = "Emma the Second"\n[calls]\nsettle = 2.5\n'
        scene.write(agents, url=other.url)
        bridge.signal(signal.SIGHUP)
        reloaded = await bridge.logged("bridge.reloaded")
        assert (reloaded["agents"], reloaded["restart_needed"]) == (1, ["calls"])
        # That is still so when they are read once more.
        bridge.signal(signal.SIGHUP)
        await bridge.logged(
            "bridge.reloaded", matches=lambda line: line is not reloaded and line["restart_needed"] == ["calls"]
        )
        await scene.pbx.send(END)
        # The other Zammad did not know that call: it is told of it first.
        await other.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", PATIENCE)
        assert other.log[0].call_id == zammad.log[0].call_id
        await scene.pbx.play(RECORDINGS / "in_busy.ami", speed=1)
        await other.wait_for(lambda z: len(z.log) == 2 and z.log[1].state == "hangup", PATIENCE)
        assert other.log[1].to_comment == "Emma the Second"
        assert not [line for line in bridge.raw if other.token in line or zammad.token in line]
        connected = [line for line in bridge.lines if line["event"] == "ami.connected"]
        assert len(connected) == 1


async def test_settings_that_cannot_be_used_change_nothing_at_sighup(scene: Scene) -> None:
    async with scene.bridge() as bridge:
        scene.write("[calls]\nsetle = 1\n")
        bridge.signal(signal.SIGHUP)
        failed = await bridge.logged("bridge.reload_failed")
        assert "calls.setle: unknown key; did you mean settle?" in failed["problems"][0]
        assert failed["remedy"]
        await scene.pbx.send(CALL)
        await scene.zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", PATIENCE)


async def test_a_token_that_is_corrected_is_used_at_once(scene: Scene) -> None:
    zammad = scene.zammad
    scene.write(url=zammad.url + "-wrong")
    async with scene.bridge() as bridge:
        await scene.pbx.send(CALL)
        fault = await bridge.logged("zammad.configuration_fault")
        assert "token" in fault["reason"]
        scene.write()
        bridge.signal(signal.SIGHUP)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["outbox"], 1, "does not exist: the bridge has not run yet"),
        (["outbox", "show"], 2, "show takes one ID or more"),
        (["outbox", "list", "1"], 2, "list takes no ID"),
        (["outbox", "--all"], 2, "--all goes with retry and discard"),
        (["outbox", "retry", "1", "--all"], 2, "retry takes one ID or more, or --all"),
    ],
)
async def test_what_the_outbox_command_says(scene: Scene, arguments: list[str], code: int, words: str) -> None:
    found, text = await scene.command(*arguments)
    assert (found, words in text) == (code, True), text


async def test_a_file_that_is_no_outbox_is_called_so(scene: Scene) -> None:
    scene.outbox.write_text("a letter to the editor")
    code, text = await scene.command("outbox")
    assert code == 1
    assert "outbox.db cannot be read: it is no SQLite database" in text


async def test_events_are_shown_retried_and_discarded(scene: Scene) -> None:
    with contextlib.closing(Store(scene.outbox)) as store:
        store.open()
        rows: dict[int, Any] = {
            number: Row(number, f"{number}.1", f"{number}.1", "newCall", 1e9, to_text(new_call(f"{number}.1")), 8,
                        "Error ID [x]", 1e9)
            for number in (1, 2, 3)
        }  # fmt: skip
        store.commit(Transaction(rows))
    code, text = await scene.command("outbox", "show", "2", "2")
    assert code == 0
    assert "Error ID [x]" in text
    assert "4917699999999" in text
    code, text = await scene.command("outbox", "show", "7")
    assert (code, "no such event" in text) == (1, True)
    code, text = await scene.command("outbox", "discard", "1")
    assert (code, text) == (0, "1 discarded\n")
    async with scene.bridge() as bridge:
        code, text = await scene.command("outbox", "retry", "--all", "--json")
        assert (code, json.loads(text)) == (0, {"retried": 2})
        await bridge.logged("outbox.edited")
        await scene.zammad.wait_for(lambda z: {row.call_id for row in z.log} == {"2.1", "3.1"}, PATIENCE)
    code, text = await scene.command("outbox", "retry", "2")
    assert (code, "no such event" in text) == (1, True)
