"""The other commands, as an administrator runs them beside a real Asterisk, and what happens when that dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.caller_log import mismatches
from tests.e2e.asterisk import Asterisk
from tests.e2e.bridge_process import PATIENCE, BridgeProcess, configuration
from tests.e2e.rig import CALLER, DID, Rig
from tests.e2e.scenarios import SCENARIOS

pytestmark = pytest.mark.e2e


async def ami2zammad(*arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ami2zammad", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@contextlib.asynccontextmanager
async def recording(config: Path, file: Path, *options: str) -> AsyncIterator[None]:
    """Record for the length of an `async with`; Ctrl-C then ends it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ami2zammad", "record", "--config", str(config), *options, str(file),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while b"record.started" not in (line := await process.stdout.readline()):
                assert line, "it ended"
        yield
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()
        assert process.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_check(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    agents = '[[agents]]\nextension = "100"\nname = "Emma Taylor"\n'
    async with Asterisk.start(version) as pbx, ZammadSandbox() as zammad:
        for account in ("least", "full"):
            config.write_text(configuration(pbx, zammad, account) + agents)
            code, text = await ami2zammad("check", "--config", str(config))
            assert code == 0, text
            assert "✗" not in text
            for line in (f"logged in as {account}", "sees events of calls", "PJSIP/trunk* is PJSIP/trunk", "100 Emma"):
                assert line in text

        config.write_text(configuration(pbx, zammad, "deaf"))
        code, text = await ami2zammad("check", "--config", str(config))
        assert code == 1
        assert "✗  AMI events" in text
        assert "read = call,agent" in text

        config.write_text(configuration(pbx, zammad, "mute"))
        code, text = await ami2zammad("check", "--config", str(config))
        assert code == 1
        assert re.search(r"✗  AMI account +may not run Status, DeviceStateList, Setvar", text)

        mistaken = configuration(pbx, zammad).replace("PJSIP/trunk*", "SIP/provider*") + agents.replace("100", "109")
        config.write_text(mistaken)
        code, text = await ami2zammad("check", "--config", str(config))
        assert code == 1
        assert "SIP/provider* matches no device" in text
        assert "set asterisk.trunks to globs on these: PJSIP/100" in text
        assert "109 Emma Taylor: no such device" in text

        config.write_text(configuration(pbx, zammad).replace(pbx.secrets["least"], "wr0ng"))
        zammad.tokens = {"another"}
        code, text = await ami2zammad("check", "--config", str(config))
        assert code == 1
        assert text.count("✗") == 2
        assert "asterisk.secret" in text
        assert "token" in text
        assert "wr0ng" not in text
        assert zammad.token not in text
        assert not zammad.log


async def test_record_and_replay(version: str, tmp_path: Path) -> None:
    config, plain, redacted = (tmp_path / name for name in ("ami2zammad.toml", "plain.ami", "redacted.ami"))
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
        config.write_text(configuration(pbx, zammad))
        async with recording(config, plain), recording(config, redacted, "--redact"):
            await SCENARIOS["in_answer_caller_hangs_up"].place(rig)
            await SCENARIOS["in_voicemail"].place(rig)
        expected = [*SCENARIOS["in_answer_caller_hangs_up"].expected, *SCENARIOS["in_voicemail"].expected]
        code, text = await ami2zammad("replay", str(plain), "--config", str(config))
        posted = [json.loads(line) for line in text.splitlines()]
        assert code == 0
        assert mismatches(expected, posted) == []

        code, text = await ami2zammad("replay", str(redacted), "--config", str(config))
        assert code == 0
        hidden = [json.loads(line) for line in text.splitlines()]
        assert [(line["event"], line.get("cause")) for line in hidden] == [
            (line["event"], line.get("cause")) for line in posted
        ]
        content = redacted.read_text(encoding="utf-8")
        for secret in (CALLER, DID, "Emma", "Taylor", pbx.secrets["least"]):
            assert secret not in content
        assert pbx.secrets["least"] not in plain.read_text(encoding="utf-8")
        assert plain.stat().st_mode & 0o077 == 0

        code, text = await ami2zammad("record", "--config", str(config), str(plain))
        assert code == 2
        assert "exists already" in text

        config.write_text(configuration(pbx, zammad).replace(pbx.secrets["least"], "wr0ng"))
        new = tmp_path / "new.ami"
        code, text = await ami2zammad("record", "--config", str(config), str(new))
        assert code == 1
        assert "asterisk.secret" in text
        assert not new.exists()


async def test_asterisk_dies_and_comes_back(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
        config.write_text(configuration(pbx, zammad))
        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            caller = rig.dial_in()
            (emma,) = await rig.ringing("100")
            emma.answer()
            await caller.answered()
            await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "answer", PATIENCE)
            await pbx.kill()
            lost = await bridge.logged("ami.disconnected")
            assert lost["remedy"]
            gone = await bridge.logged("ami.unreachable")
            assert "asterisk.port" in gone["remedy"]
            await pbx.run_again()
            await rig.reconnect()
            # Asterisk knows nothing of that call any more, so it has ended.
            await zammad.wait_for(lambda z: z.log[0].state == "hangup", PATIENCE)
            assert zammad.log[0].cause == "normalClearing"
            await rig.hang_up_everything()
            await SCENARIOS["in_cancel"].place(rig)
            await zammad.wait_for(lambda z: len(z.log) == 2 and z.log[1].state == "hangup", PATIENCE)
            # One line for each change of state, however often it was tried in between.
            events = [line["event"] for line in bridge.lines if line["event"].startswith("ami.")]
            assert events == [
                "ami.connected", "ami.snapshot", "ami.disconnected", "ami.unreachable", "ami.connected", "ami.snapshot",
            ]  # fmt: skip


async def test_a_refused_login_is_explained_and_tried_again(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with Asterisk.start(version) as pbx, ZammadSandbox() as zammad:
        config.write_text(configuration(pbx, zammad).replace(pbx.secrets["least"], "wr0ng-secret"))
        async with BridgeProcess.run(config) as bridge:
            refused = await bridge.logged("ami.unreachable")
            assert refused["reason"] == "login_refused"
            assert "asterisk.secret" in refused["remedy"]
        assert not [line for line in bridge.raw if "wr0ng-secret" in line]
