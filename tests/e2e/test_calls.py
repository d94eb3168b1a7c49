"""Every row of docs/calls.md: real SIP calls through a real Asterisk, the bridge as its own process, the caller log.

What is compared is what Zammad received and what its caller log then shows, field by field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ami2zammad.calls.events import VOICEMAIL
from ami2zammad.sandbox.zammad import LogEntry, ZammadSandbox
from tests.caller_log import mismatches
from tests.e2e.asterisk import Asterisk
from tests.e2e.bridge_process import PATIENCE, BridgeProcess, configuration
from tests.e2e.rig import BLOCKED_CALLER, Rig
from tests.e2e.scenarios import SCENARIOS

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


@dataclasses.dataclass
class Stage:
    """A PBX, phones, the bridge, and Zammad."""

    rig: Rig
    bridge: BridgeProcess
    zammad: ZammadSandbox
    seen: int = 0
    """How many rows of the caller log belong to earlier scenarios."""
    unsettled: bool = False
    """A scenario went wrong: something of it may still be to come."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(version: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    config: Path = tmp_path_factory.mktemp(f"bridge-{version}") / "ami2zammad.toml"
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
        config.write_text(configuration(pbx, zammad))
        zammad.block(BLOCKED_CALLER)
        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            yield Stage(rig, bridge, zammad)
        secrets = (pbx.secrets["least"], zammad.token)
        assert not [line for line in bridge.raw if any(secret in line for secret in secrets)]
        # Neither a duplicate nor anything that Zammad would refuse, in all those calls.
        assert {received.status for received in zammad.requests} == {200}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_call(stage: Stage, scenario: str) -> None:
    if stage.unsettled:
        await _settle(stage)
    stage.unsettled = True
    expected = SCENARIOS[scenario].expected
    status = await SCENARIOS[scenario].place(stage.rig)
    if scenario == "in_blocked_caller":
        assert status == 486
    rows = await _new_rows(stage, len(expected)) if expected else await _settle(stage)
    posted = [
        received.fields for received in stage.zammad.requests if received.call_id in {row.call_id for row in rows}
    ]
    assert mismatches(expected, posted) == []
    for row in rows:
        # What an agent sees: nothing rings for ever, and what nobody took is still to do.
        missed = row.start_at is None and row.cause != "forwarded"
        voicemail = row.to_comment == VOICEMAIL
        assert (row.state, row.done) == ("hangup", row.direction == "out" or not (missed or voicemail))
    stage.unsettled = False


async def _new_rows(stage: Stage, count: int) -> list[LogEntry]:
    """Wait for so many new rows in the caller log, all ended, and return all that are new."""
    total = stage.seen + count
    await stage.zammad.wait_for(
        lambda zammad: len(zammad.log) >= total and all(row.state == "hangup" for row in zammad.log), PATIENCE
    )
    rows = stage.zammad.log[stage.seen :]
    stage.seen += len(rows)
    return rows


async def _settle(stage: Stage) -> list[LogEntry]:
    """Place one more call and wait for it: what was to be told before it has been told then; return that."""
    before = {row.call_id for row in stage.zammad.log}
    await SCENARIOS["in_cancel"].place(stage.rig)
    await stage.zammad.wait_for(
        lambda zammad: any(row.call_id not in before and row.cause == "cancel" for row in zammad.log), PATIENCE
    )
    rows = await _new_rows(stage, 0)
    return rows[:-1]
