"""A bridge that comes, goes and comes back in the middle of real calls; what it missed it reads off Asterisk's list."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.caller_log import ORDER, mismatches
from tests.e2e.asterisk import Asterisk
from tests.e2e.bridge_process import PATIENCE, DoomedBridge, configuration
from tests.e2e.rig import OUTSIDE, Rig
from tests.e2e.scenarios import CHRIS, EMMA, FORWARDED, Entry, answered_by_100, dialled, missed, taken, then

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


class Stage:
    """A PBX with phones, a Zammad, and a bridge that may be away."""

    def __init__(self, rig: Rig, zammad: ZammadSandbox, config: Path) -> None:
        self.rig = rig
        self.zammad = zammad
        self._config = config

    @contextlib.asynccontextmanager
    async def bridge(self) -> AsyncIterator[DoomedBridge]:
        """Run the bridge; from then on it knows what goes on."""
        async with DoomedBridge.run(self._config) as bridge:
            await bridge.logged("ami.snapshot")
            yield bridge

    async def told(self, state: str, count: int = 1) -> None:
        """Wait until Zammad shows so many entries, the last one in this state."""
        await self.zammad.wait_for(lambda z: len(z.log) == count and z.log[-1].state == state, PATIENCE)

    async def expect(self, *entries: Entry) -> None:
        """Wait for the end of all calls; the caller log must then hold these entries, complete and in order.

        A bridge that was killed before it had noted the reply to an event says that event once more.
        """
        await self.rig.idle()
        await self.zammad.wait_for(
            lambda z: len(z.log) == len(entries) and all(row.state == "hangup" for row in z.log), PATIENCE
        )
        posted = {(received.call_id, received.event): received.fields for received in self.zammad.requests}
        assert mismatches(entries, posted.values()) == []
        for row in self.zammad.log:
            assert row.changes.count("newCall") == 1
            assert row.changes == sorted(row.changes, key=ORDER.index)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(version: str) -> AsyncIterator[Rig]:
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="session")
async def stage(rig: Rig, tmp_path: Path) -> AsyncIterator[Stage]:
    await rig.begin()
    async with ZammadSandbox() as zammad:
        config = tmp_path / "ami2zammad.toml"
        config.write_text(configuration(rig.pbx, zammad))
        try:
            yield Stage(rig, zammad, config)
        finally:
            await rig.hang_up_everything()


async def test_a_call_that_rings_when_the_bridge_starts_is_announced(stage: Stage) -> None:
    caller = stage.rig.dial_in()
    (emma,) = await stage.rig.ringing("100")
    async with stage.bridge():
        await stage.told("newCall")
        emma.answer()
        await stage.told("answer")
        await caller.bye()
        await stage.expect(taken("100", EMMA))


async def test_a_call_that_is_answered_when_the_bridge_starts_is_logged(stage: Stage) -> None:
    caller, _ = await answered_by_100(stage.rig)
    async with stage.bridge():
        await stage.told("answer")
        await caller.bye()
        await stage.expect(taken("100", EMMA))


async def test_a_caller_who_waits_in_a_queue_when_the_bridge_starts(stage: Stage) -> None:
    caller = stage.rig.dial_in("4930600130")
    _, chris = await stage.rig.ringing("100", "101")
    async with stage.bridge():
        await stage.told("newCall")
        chris.answer()
        await stage.told("answer")
        await caller.bye()
        await stage.expect(taken("101", EMMA, CHRIS, queue="support", to="4930600130"))


async def test_a_caller_who_gives_up_in_a_queue_that_the_bridge_found_him_in(stage: Stage) -> None:
    caller = stage.rig.dial_in("4930600130")
    await stage.rig.ringing("100", "101")
    async with stage.bridge():
        await stage.told("newCall")
        await caller.bye()
        await stage.expect(missed("cancel", EMMA, CHRIS, queue="support", to="4930600130"))


async def test_an_outbound_call_that_rings_when_the_bridge_starts(stage: Stage) -> None:
    emma = stage.rig.phones["100"].call(f"0{OUTSIDE}")
    outside = await stage.rig.trunk.incoming()
    outside.ring(180)
    await emma.progress(180)
    async with stage.bridge():
        await stage.told("newCall")
        outside.answer()
        await stage.told("answer")
        await emma.bye()
        await stage.expect(dialled("normalClearing", answered=True))


async def test_an_internal_call_is_no_concern_of_zammad_s_at_the_start_either(stage: Stage) -> None:
    emma = stage.rig.phones["100"].call("101")
    (chris,) = await stage.rig.ringing("101")
    chris.answer()
    await emma.answered()
    async with stage.bridge():
        await emma.bye()
        # What is told of this call comes after anything that would be told of that one.
        await stage.rig.idle()
        caller, _ = await answered_by_100(stage.rig)
        await caller.bye()
        await stage.expect(taken("100", EMMA))


async def test_killed_while_it_rings_answered_while_it_is_away(stage: Stage) -> None:
    caller = stage.rig.dial_in()
    (emma,) = await stage.rig.ringing("100")
    async with stage.bridge() as bridge:
        await stage.told("newCall")
        await bridge.kill()
    emma.answer()
    await caller.answered()
    await stage.rig.together("PJSIP/trunk", "PJSIP/100")
    async with stage.bridge():
        await stage.told("answer")
        await caller.bye()
        await stage.expect(taken("100", EMMA))


async def test_killed_in_a_call_that_ends_while_it_is_away(stage: Stage) -> None:
    caller, emma = await answered_by_100(stage.rig)
    async with stage.bridge() as bridge:
        await stage.told("answer")
        await bridge.kill()
    await caller.bye()
    await emma.ended()
    async with stage.bridge():
        await stage.expect(taken("100", EMMA))


async def test_killed_while_it_rings_given_up_while_it_is_away(stage: Stage) -> None:
    caller = stage.rig.dial_in()
    (emma,) = await stage.rig.ringing("100")
    async with stage.bridge() as bridge:
        await stage.told("newCall")
        await bridge.kill()
    await caller.cancel()
    await emma.ended()
    async with stage.bridge():
        await stage.expect(missed("cancel", EMMA))


async def test_killed_in_a_call_that_is_passed_on_while_it_is_away(stage: Stage) -> None:
    caller, emma = await answered_by_100(stage.rig)
    async with stage.bridge() as bridge:
        await stage.told("answer")
        await bridge.kill()
    await emma.refer("101")
    (chris,) = await stage.rig.ringing("101")
    chris.answer()
    await stage.rig.together("PJSIP/trunk", "PJSIP/101")
    async with stage.bridge():
        await stage.told("answer", 2)
        await caller.bye()
        await stage.expect(FORWARDED, then("101", to="101"))


async def test_killed_in_the_second_entry_of_a_call(stage: Stage) -> None:
    caller, emma = await answered_by_100(stage.rig)
    async with stage.bridge() as bridge:
        await stage.told("answer")
        await emma.refer("101")
        (chris,) = await stage.rig.ringing("101")
        chris.answer()
        await stage.told("answer", 2)
        await bridge.kill()
    async with stage.bridge():
        await caller.bye()
        await stage.expect(FORWARDED, then("101", to="101"))


async def test_an_outbound_call_goes_on_over_a_kill(stage: Stage) -> None:
    emma = stage.rig.phones["100"].call(f"0{OUTSIDE}")
    outside = await stage.rig.trunk.incoming()
    outside.ring(180)
    await emma.progress(180)
    async with stage.bridge() as bridge:
        await stage.told("newCall")
        await bridge.kill()
    outside.answer()
    await emma.answered()
    await stage.rig.together("PJSIP/100", "PJSIP/trunk")
    async with stage.bridge() as bridge:
        await stage.told("answer")
        await bridge.kill()
    async with stage.bridge():
        await emma.bye()
        await stage.expect(dialled("normalClearing", answered=True))


async def test_asterisk_and_the_bridge_both_die_and_come_back(stage: Stage) -> None:
    await answered_by_100(stage.rig)
    async with stage.bridge() as bridge:
        await stage.told("answer")
        await stage.rig.pbx.kill()
        await bridge.kill()
    await stage.rig.pbx.run_again()
    await stage.rig.reconnect()
    async with stage.bridge():
        await stage.told("hangup")
        await stage.rig.hang_up_everything()
        await stage.rig.begin()
        caller, _ = await answered_by_100(stage.rig)
        await caller.bye()
        await stage.expect(taken("100", EMMA), taken("100", EMMA))
