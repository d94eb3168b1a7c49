"""Zammad's replies act on live calls, and never stand in a call's way: seen from the telephones.

Real SIP calls through a real Asterisk with the shipped subroutines and the shipped AMI account. The bridge is a process
of its own, which is stopped, killed and frozen where that is the point.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from ami2zammad.sandbox.zammad import Fault, Received, normalize
from tests.e2e.bridge_process import PATIENCE
from tests.e2e.control_scenarios import (
    HAND_OVER,
    LOCAL_EMERGENCY,
    SCREEN_OUT,
    SCREEN_TWICE,
    SCREENED,
    SCREENED_FOR_QUEUE,
    SHOWN,
    THROUGH_DIALPLAN,
    TOKEN,
    WAITING,
    Pbx,
    Scene,
)
from tests.e2e.rig import BLOCKED_CALLER, OUTSIDE
from tests.e2e.scenarios import EMMA, ZOE, Entry, dialled, missed, taken

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pbx(version: str) -> AsyncIterator[Pbx]:
    async with Pbx.start(version) as pbx:
        yield pbx


def new_call(request: Received) -> bool:
    return request.event == "newCall"


def from_block_list(request: Received) -> bool:
    return new_call(request) and request.fields["from"] == BLOCKED_CALLER


# --- In: reject ---------------------------------------------------------------------------------------


async def test_blocked_caller_while_the_phone_rings(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        caller = scene.rig.dial_in(caller=BLOCKED_CALLER)
        assert await caller.final() == 486
        for call in scene.rig.phones["100"].calls:
            await call.ended()
        await scene.in_log(missed("busy", EMMA, caller=BLOCKED_CALLER))


async def test_blocked_caller_before_any_phone_rings(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        caller = scene.rig.dial_in(SCREENED, caller=BLOCKED_CALLER)
        assert await caller.final() == 486
        assert 180 not in caller.statuses
        await scene.rig.idle()
        assert scene.rig.phones["100"].calls == []
        await scene.in_log(missed("busy", to=SCREENED, caller=BLOCKED_CALLER))


async def test_a_caller_that_nobody_blocks(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        caller = scene.rig.dial_in(SCREENED_FOR_QUEUE)
        (emma,) = await scene.rig.ringing("100")
        assert await scene.decided() == {"STATUS": "ok", "ACTION": "none"}
        assert (await scene.asked()).status == 200  # before the phone rang
        await scene.through(caller, emma)
        await scene.in_log(taken("100", ZOE, queue="support", to=SCREENED_FOR_QUEUE))


async def test_blocked_caller_in_a_queue(pbx: Pbx, tmp_path: Path) -> None:
    """The dialplan has answered, so SIP has no busy any more; no agent has, so the call is ended."""
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        did = "4930600130"
        caller = scene.rig.dial_in(did, caller=BLOCKED_CALLER)
        await caller.answered()
        await caller.ended()
        assert not caller.ended_by_us
        await scene.rig.idle()
        await scene.in_log(missed("busy", queue="support", to=did, caller=BLOCKED_CALLER))


async def test_an_answered_call_is_not_cut_by_a_late_reject(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        scene.zammad.fail(Fault.SLOW, seconds=0.7, match=new_call)
        caller = scene.rig.dial_in(caller=BLOCKED_CALLER)
        (emma,) = await scene.rig.ringing("100")
        await scene.asked()
        emma.answer()
        await caller.answered()
        await scene.rig.in_bridge("PJSIP/100")
        await scene.bridge.logged("control.too_late")
        await scene.rig.talk(0.5)
        assert not caller.over
        assert not emma.over
        await emma.bye()
        await caller.ended()
        await scene.in_log(taken("100", EMMA, caller=BLOCKED_CALLER))


async def test_a_reject_after_the_time_for_decisions_changes_nothing(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, decision_timeout=0.3) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        scene.zammad.fail(Fault.SLOW, seconds=0.7, match=new_call)
        caller = scene.rig.dial_in(caller=BLOCKED_CALLER)
        (emma,) = await scene.rig.ringing("100")
        await scene.bridge.logged("control.late")
        await scene.rig.talk(0.5)
        assert caller.status == 180
        await scene.through(caller, emma)
        await scene.in_log(taken("100", EMMA, caller=BLOCKED_CALLER))


async def test_a_screened_caller_goes_on_when_the_reject_comes_late(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, decision_timeout=0.5) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        scene.zammad.fail(Fault.SLOW, seconds=1.0, match=from_block_list)
        started = time.monotonic()
        caller = scene.rig.dial_in(SCREENED, caller=BLOCKED_CALLER)
        (emma,) = await scene.rig.ringing("100")
        assert time.monotonic() - started >= 0.5
        assert (await scene.decided())["STATUS"] == "timeout"
        await scene.bridge.logged("zammad.delivered")
        await scene.rig.talk(0.5)
        assert caller.status == 180
        await scene.through(caller, emma)
        await scene.in_log(taken("100", to=SCREENED, caller=BLOCKED_CALLER))


# --- Out: the caller ID -------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["by rule", "by default", "none"])
async def test_caller_id(pbx: Pbx, tmp_path: Path, wanted: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        if wanted != "none":
            scene.zammad.default_caller_id = SHOWN if wanted == "by default" else "4940999999"
        if wanted == "by rule":
            scene.zammad.route("4989*", "4989111111")
            scene.zammad.route("49221*", SHOWN)
        emma = scene.dial(SCREEN_OUT)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == ("100" if wanted == "none" else SHOWN)
        assert ("Emma" in outside.from_header) == (wanted == "none")  # whose name must not go with another number
        assert outside.to_user == OUTSIDE
        assert await scene.decided() == {
            "STATUS": "ok",
            "ACTION": "none" if wanted == "none" else "dial",
            "CALLER_ID": "" if wanted == "none" else SHOWN,
            "NUMBER": "",
        }
        await scene.through(emma, outside)
        row = await scene.in_log(dialled("normalClearing", answered=True))
        assert row.from_ == ("100" if wanted == "none" else SHOWN)


@pytest.mark.parametrize("way", [SCREEN_OUT, HAND_OVER])
async def test_a_caller_id_that_is_no_number_comes_near_no_channel(pbx: Pbx, tmp_path: Path, way: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = f'{SHOWN}" <110>'
        emma = scene.dial(way)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        await scene.bridge.logged("control.number_refused")
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True))


async def test_a_call_that_asks_twice_is_one_call(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = SHOWN
        emma = scene.dial(SCREEN_TWICE)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == SHOWN
        assert (await scene.decided())["STATUS"] == "ok"
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True))


async def test_a_national_number_is_the_same_number(pbx: Pbx, tmp_path: Path) -> None:
    """Kiel, which without its 0 would be Vienna: nothing may take it for the line prefix a second time."""
    async with Scene.open(pbx, tmp_path, outbound_prefix="0") as scene:
        scene.zammad.route("49431*", SHOWN)
        national = "0431234567"
        emma = scene.dial(SCREEN_OUT, national)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == (SHOWN, national)
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True, to="49431234567"))


# --- Zammad in trouble --------------------------------------------------------------------------------


async def test_zammad_is_slow(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, decision_timeout=3) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.SLOW, seconds=2.0, match=new_call)
        started = time.monotonic()
        emma = scene.dial(SCREEN_OUT)
        outside = await scene.rig.trunk.ringing()
        assert time.monotonic() - started >= 2.0
        assert outside.from_user == SHOWN
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True))


async def test_zammad_hangs(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, decision_timeout=0.5, zammad_timeout=1) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.HANG, times=1)
        emma = scene.dial(SCREEN_OUT)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        assert (await scene.decided())["STATUS"] == "timeout"
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True))


@pytest.mark.parametrize("trouble", ["refuses connections", "is switched off", "goes away meanwhile"])
async def test_zammad_cannot_help(pbx: Pbx, tmp_path: Path, trouble: str) -> None:
    """Nobody waits for a time limit: it is longer than the test's patience."""
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.block(BLOCKED_CALLER)
        match trouble:
            case "refuses connections":
                await scene.zammad.down()
            case "is switched off":
                scene.zammad.enabled = False
            case _:
                scene.zammad.fail(Fault.HANG)
        caller = scene.rig.dial_in(SCREENED, caller=BLOCKED_CALLER)
        if trouble == "goes away meanwhile":
            await scene.asked()
        agent = scene.dial(SCREEN_OUT)
        if trouble == "goes away meanwhile":
            await scene.zammad.wait_for(lambda zammad: len(zammad.requests) == 2)
            await scene.zammad.down()
        emma, outside = await scene.rig.phones["100"].ringing(), await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        assert (await scene.decided())["STATUS"] == "unavailable"
        await scene.through(caller, emma)
        await scene.through(agent, outside)
        await scene.bridge.kill()  # it would wait for Zammad first


async def test_zammad_fails_once_and_then_rejects_in_time(pbx: Pbx, tmp_path: Path) -> None:
    """The call has gone on at the first failure; what the second attempt brings ends it while the phone rings."""
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.block(BLOCKED_CALLER)
        scene.zammad.fail(Fault.ERROR, times=1)
        caller = scene.rig.dial_in(SCREENED, caller=BLOCKED_CALLER)
        emma = await scene.rig.phones["100"].ringing()
        assert (await scene.decided())["STATUS"] == "unavailable"
        assert await caller.final() == 486
        await emma.ended()
        await scene.in_log(missed("busy", to=SCREENED, caller=BLOCKED_CALLER))


async def test_zammad_fails_once_and_then_has_a_caller_id(pbx: Pbx, tmp_path: Path) -> None:
    """That comes too late for a call that is being dialled."""
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.ERROR, times=1)
        agent = scene.dial(SCREEN_OUT)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        assert (await scene.decided())["STATUS"] == "unavailable"
        await scene.bridge.logged("zammad.delivered")
        await scene.through(agent, outside)
        await scene.in_log(dialled("normalClearing", answered=True))


# --- The bridge in trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["in", "out"])
async def test_without_a_bridge(pbx: Pbx, tmp_path: Path, direction: str) -> None:
    async with Scene.open(pbx, tmp_path, bridge=False) as scene:
        if direction == "in":
            calling = scene.rig.dial_in(SCREENED)
            called = await scene.rig.phones["100"].ringing()
        else:
            calling = scene.dial(SCREEN_OUT)
            called = await scene.rig.trunk.ringing()
            assert called.from_user == "100"
        assert (await scene.decided())["STATUS"] == "unavailable"
        await scene.through(calling, called)


@pytest.mark.parametrize("end", ["stopped", "killed", "frozen, then killed by a watchdog"])
async def test_the_bridge_ends_while_a_call_waits_for_it(pbx: Pbx, tmp_path: Path, end: str) -> None:
    async with Scene.open(pbx, tmp_path, zammad_timeout=20) as scene:
        scene.zammad.fail(Fault.HANG)
        calls = [scene.rig.dial_in(SCREENED), scene.dial(SCREEN_OUT)]
        await scene.zammad.wait_for(lambda zammad: len(zammad.requests) == 2)
        match end:
            case "stopped":
                stopping = asyncio.create_task(scene.bridge.stop())
            case "killed":
                stopping = asyncio.create_task(scene.bridge.kill())
            case _:
                scene.bridge.freeze()
                # Nothing tells Asterisk: the calls are held as long as the watchdog needs.
                await scene.rig.talk(1)
                assert scene.rig.phones["100"].calls == [calls[1]]
                assert scene.rig.trunk.calls == [calls[0]]
                stopping = asyncio.create_task(scene.bridge.kill())
        emma = await scene.rig.phones["100"].ringing()
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        await scene.through(calls[0], emma)
        await scene.through(calls[1], outside)
        # A bridge that is told to stop first delivers what it has.
        await scene.zammad.down()
        scene.zammad.heal()
        await scene.zammad.up()
        await stopping


@pytest.mark.parametrize("direction", ["in", "out"])
async def test_the_caller_gives_up_while_zammad_is_asked(pbx: Pbx, tmp_path: Path, direction: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.fail(Fault.SLOW, seconds=0.7, match=new_call)
        caller = scene.rig.dial_in(SCREENED) if direction == "in" else scene.dial(SCREEN_OUT)
        await scene.asked()
        await caller.cancel()
        assert caller.status == 487
        await scene.rig.idle()
        assert scene.rig.phones["100"].calls == ([] if direction == "in" else [caller])
        assert scene.rig.trunk.calls == ([caller] if direction == "in" else [])
        await scene.in_log(missed("cancel", to=SCREENED) if direction == "in" else dialled("cancel", answered=False))


async def test_the_caller_gives_up_while_the_bridge_is_frozen(pbx: Pbx, tmp_path: Path) -> None:
    """The caller is let go at once; what is left of the channel in Asterisk waits for the watchdog."""
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.fail(Fault.HANG)
        caller = scene.rig.dial_in(SCREENED)
        await scene.asked()
        scene.bridge.freeze()
        await caller.cancel()
        assert caller.status == 487
        assert scene.rig.ami.channels
        await scene.bridge.kill()
        await scene.rig.idle()
        assert scene.rig.phones["100"].calls == []


# --- Emergency calls ----------------------------------------------------------------------------------


async def test_an_emergency_call_does_not_need_the_bridge(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.HANG)
        scene.bridge.freeze()
        emma = scene.dial(SCREEN_OUT, "112")
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == ("100", "112")
        assert (await scene.decided())["STATUS"] == "emergency"
        await scene.through(emma, outside)
        assert not scene.zammad.requests
        # Reported afterwards.
        scene.zammad.heal()
        scene.bridge.thaw()
        row = await scene.in_log(dialled("normalClearing", answered=True, to="112"))
        assert row.to == "112"


async def test_the_bridge_knows_emergency_numbers_too(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, zammad_timeout=1) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.HANG, times=1)
        emma = scene.dial(SCREEN_OUT, LOCAL_EMERGENCY)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == ("100", LOCAL_EMERGENCY)
        assert (await scene.decided())["STATUS"] == "emergency"
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True, to=LOCAL_EMERGENCY))


@pytest.mark.parametrize("number", ["112", LOCAL_EMERGENCY])
async def test_an_emergency_call_that_is_handed_over(pbx: Pbx, tmp_path: Path, number: str) -> None:
    async with Scene.open(pbx, tmp_path, zammad_timeout=1, outbound_prefix=HAND_OVER) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.HANG, times=1)
        emma = scene.dial(HAND_OVER, number)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == ("100", number)
        await scene.through(emma, outside)
        await scene.in_log(dialled("normalClearing", answered=True, to=number))


# --- Out: dialled by the bridge -----------------------------------------------------------------------


@pytest.mark.parametrize("hangs_up", ["agent", "far side"])
async def test_originate_answered(pbx: Pbx, tmp_path: Path, hangs_up: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.route("49221*", SHOWN)
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == (SHOWN, OUTSIDE)
        await emma.progress()
        assert emma.status == 180  # rings, not answered: the far side has not
        if hangs_up == "far side":
            # Longer than the dialplan waits to be taken over: the channel is in its second wait.
            await scene.rig.talk(WAITING + 0.5)
        outside.answer()
        await emma.answered()
        await scene.rig.together("PJSIP/100", "PJSIP/trunk")
        await scene.rig.talk()
        first, second = (emma, outside) if hangs_up == "agent" else (outside, emma)
        await first.bye()
        await second.ended()
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1
        row = await scene.in_log(dialled("normalClearing", answered=True))
        assert row.from_ == SHOWN


async def test_originate_answered_at_once(pbx: Pbx, tmp_path: Path) -> None:
    """The agent's channel is still in its first wait when the far side answers; nobody dials a second time."""
    async with Scene.open(pbx, tmp_path) as scene:
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.incoming()
        assert outside.from_user == "100"  # no override: the agent's own
        outside.answer()
        await emma.answered()
        await scene.rig.together("PJSIP/100", "PJSIP/trunk")
        await scene.rig.talk()
        await outside.bye()
        await emma.ended()
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1
        await scene.in_log(dialled("normalClearing", answered=True))


@pytest.mark.parametrize(
    ("far_side", "agent", "cause"), [(486, 486, "busy"), (480, 480, "noAnswer"), (404, 404, "notFound")]
)
async def test_originate_not_answered(pbx: Pbx, tmp_path: Path, far_side: int, agent: int, cause: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        emma = scene.dial(HAND_OVER)
        (await scene.rig.trunk.ringing()).decline(far_side)
        assert await emma.final() == agent
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1
        await scene.in_log(dialled(cause, answered=False))


async def test_originate_the_agent_gives_up(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        await emma.progress()
        await emma.cancel()
        await outside.ended()
        assert outside.cancelled
        await scene.in_log(dialled("cancel", answered=False))


async def test_originate_the_agent_gives_up_before_anything_is_dialled(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.fail(Fault.SLOW, seconds=0.7, match=new_call)
        emma = scene.dial(HAND_OVER)
        await scene.asked()
        await emma.cancel()
        await scene.rig.idle()
        await scene.in_log(dialled("cancel", answered=False))
        assert scene.rig.trunk.calls == []


@pytest.mark.parametrize("far_side", ["answers", "is busy"])
async def test_originate_through_the_dialplan(pbx: Pbx, tmp_path: Path, far_side: str) -> None:
    async with Scene.open(pbx, tmp_path, originate_channel=THROUGH_DIALPLAN) as scene:
        scene.zammad.default_caller_id = SHOWN
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == (SHOWN, OUTSIDE)
        if far_side == "answers":
            await scene.through(emma, outside)
            await scene.in_log(dialled("normalClearing", answered=True))
        else:
            outside.decline(486)
            assert await emma.final() == 486
            await scene.in_log(dialled("busy", answered=False))


@pytest.mark.parametrize("lost", ["while Zammad is asked", "while the far side rings"])
async def test_originate_once_although_the_ami_connection_is_lost(pbx: Pbx, tmp_path: Path, lost: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        if lost == "while Zammad is asked":
            scene.zammad.fail(Fault.SLOW, seconds=0.7, match=new_call)
        emma = scene.dial(HAND_OVER)
        if lost == "while Zammad is asked":
            await scene.asked()
            await scene.lose_ami()
            outside = await scene.rig.trunk.ringing()
        else:
            outside = await scene.rig.trunk.ringing()
            await scene.lose_ami()
            await scene.rig.talk(WAITING + 0.5)
        await scene.through(emma, outside)
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1
        await scene.in_log(dialled("normalClearing", answered=True))


async def test_originate_while_zammad_hangs(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, decision_timeout=0.5, zammad_timeout=1) as scene:
        scene.zammad.default_caller_id = SHOWN
        scene.zammad.fail(Fault.HANG, times=1)
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        await scene.rig.talk(WAITING)
        await scene.through(emma, outside)
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1
        await scene.in_log(dialled("normalClearing", answered=True))


async def test_handed_over_without_a_bridge(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path, bridge=False) as scene:
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        assert (outside.from_user, outside.to_user) == ("100", OUTSIDE)
        await scene.through(emma, outside)


async def test_the_bridge_is_killed_before_it_takes_the_call(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.fail(Fault.HANG)
        emma = scene.dial(HAND_OVER)
        await scene.asked()
        await scene.bridge.kill()
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == "100"
        await scene.through(emma, outside)
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1


@pytest.mark.parametrize("far_side", ["answers", "is busy"])
async def test_the_bridge_is_killed_after_it_has_dialled(pbx: Pbx, tmp_path: Path, far_side: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.default_caller_id = SHOWN
        emma = scene.dial(HAND_OVER)
        outside = await scene.rig.trunk.ringing()
        await scene.bridge.kill()
        await emma.progress()
        if far_side == "answers":
            await scene.rig.talk(WAITING + 0.5)
            outside.answer()
            await emma.answered()
            await scene.rig.talk()
            await outside.bye()
            await emma.ended()
        else:
            outside.decline(486)
            assert await emma.final() == 480  # nobody is left to say why, but it does not ring for ever
        await scene.rig.idle()
        assert len(scene.rig.trunk.calls) == 1


# --- Click to dial ------------------------------------------------------------------------------------


async def click(scene: Scene, way: str, extension: str = "100", number: str = f"+{OUTSIDE}") -> None:
    """Ask for a call, over HTTP or with the command."""
    if way == "http":
        body = {"extension": extension, "number": number}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://{scene.ops}/dial", json=body, headers={"Authorization": f"Bearer {TOKEN}"}
            ) as response,
        ):
            assert response.status < 300, await response.text()
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ami2zammad", "dial", extension, number, "--config", str(scene.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("way", ["http", "command"])
async def test_click_to_dial(pbx: Pbx, tmp_path: Path, way: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        scene.zammad.route("49221*", SHOWN)
        clicking = asyncio.create_task(click(scene, way))
        (emma,) = await scene.rig.ringing("100")
        assert (await scene.asked()).status == 200  # before the phone rang
        assert len(scene.rig.trunk.calls) == 0
        await scene.rig.talk(0.2)
        emma.answer()
        outside = await scene.rig.trunk.ringing()
        assert outside.from_user == SHOWN
        assert normalize(outside.to_user) == OUTSIDE
        await clicking
        outside.answer()
        await scene.rig.together("PJSIP/100", "PJSIP/trunk")
        await scene.rig.talk()
        await emma.bye()
        await outside.ended()
        row = await scene.in_log(dialled("normalClearing", answered=True))
        assert row.from_ == SHOWN


@pytest.mark.parametrize(("status", "cause"), [(486, "busy"), (603, "noAnswer")])
async def test_click_to_dial_the_agent_does_not_answer(pbx: Pbx, tmp_path: Path, status: int, cause: str) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        await click(scene, "http")
        (await scene.rig.phones["100"].ringing()).decline(status)
        await scene.in_log(dialled(cause, answered=False))
        assert scene.rig.trunk.calls == []


async def test_click_to_dial_the_far_side_does_not_answer(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene:
        await click(scene, "http")
        emma = await scene.rig.phones["100"].ringing()
        emma.answer()
        (await scene.rig.trunk.ringing()).decline(486)
        await emma.ended()
        await scene.in_log(dialled("busy", answered=False))


async def test_click_to_dial_without_a_phone(pbx: Pbx, tmp_path: Path) -> None:
    """103 is switched off: Asterisk has no channel to make."""
    async with Scene.open(pbx, tmp_path) as scene:
        await click(scene, "http", extension="103")
        await scene.in_log(
            Entry(direction="out", from_number="103", to_number=OUTSIDE, answered=False, cause="notFound")
        )


async def test_click_to_dial_needs_the_token(pbx: Pbx, tmp_path: Path) -> None:
    async with Scene.open(pbx, tmp_path) as scene, aiohttp.ClientSession() as session:
        body = {"extension": "100", "number": OUTSIDE}
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with session.post(f"http://{scene.ops}/dial", json=body, headers=headers) as response:
                assert response.status == 401
        assert not scene.zammad.requests
        assert scene.rig.phones["100"].calls == []
