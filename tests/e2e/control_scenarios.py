"""A PBX whose dialplan asks the bridge, and bridges that come, go, stop and die in the middle of a call.

The dialplan is what is shipped in config/asterisk, with nothing changed but the port.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from ami2zammad.sandbox.zammad import LogEntry, Received, ZammadSandbox
from tests.caller_log import Fields, by_entry, differences
from tests.e2e import config
from tests.e2e.asterisk import PBX_HOST, Asterisk
from tests.e2e.bridge_process import PATIENCE, DoomedBridge
from tests.e2e.rig import OUTSIDE, Rig
from tests.e2e.scenarios import Entry
from tests.e2e.sip import Call
from tests.line import Line

SHOWN = "4969000911"
"""The caller ID that Zammad wants."""

SCREENED = "4930600180"
"""A DID whose calls ask first, then ring 100."""

SCREENED_FOR_QUEUE = "4930600181"
"""The same, and the question names a queue and an agent."""

SCREEN_OUT = "8"
"""Dialled before a number: the dialplan asks, then dials."""

HAND_OVER = "7"
"""Dialled before a number: the bridge dials."""

SCREEN_TWICE = "6"
"""The same, and asks once more before it dials, as where a first trunk has failed."""

THROUGH_DIALPLAN = "Local/{number}@zammad-trunk/n"
"""An originate_channel that leaves the choice of a trunk to the dialplan."""

LOCAL_EMERGENCY = "115"
"""An emergency number that only the bridge's configuration knows, not the dialplan."""

WAITING = 2
"""Seconds that the dialplan waits for the bridge to take a call that is handed over."""

NEVER = 60.0
"""A decision_timeout that is not to be waited for: a call that does wait for it makes the test fail."""

TOKEN = "click-to-dial-for-tests"

_DIALPLAN = f"""
#include extensions_zammad.conf

[from-trunk]
exten => {SCREENED},1,Gosub(zammad-screen-in,s,1)
 same => n,Dial(PJSIP/100,20,tT)
 same => n,Hangup()
exten => {SCREENED_FOR_QUEUE},1,Gosub(zammad-screen-in,s,1(queue=support&user=Zo%C3%AB%20M%C3%BCller))
 same => n,Dial(PJSIP/100,20,tT)
 same => n,Hangup()

[from-internal]
exten => _{SCREEN_OUT}XX.,1,Gosub(zammad-screen-out,s,1(${{EXTEN:1}}))
 same => n,Set(TO=${{IF($["${{ZAMMAD_NUMBER}}" = ""]?${{EXTEN:1}}:${{ZAMMAD_NUMBER}})}})
 same => n,Dial(PJSIP/${{TO}}@trunk,20,tT)
 same => n,Hangup()
exten => _{SCREEN_TWICE}XX.,1,Gosub(zammad-screen-out,s,1(${{EXTEN:1}}))
 same => n,Gosub(zammad-screen-out,s,1(${{EXTEN:1}}))
 same => n,Dial(PJSIP/${{EXTEN:1}}@trunk,20,tT)
 same => n,Hangup()
exten => _{HAND_OVER}XX.,1,Gosub(zammad-originate,s,1(${{EXTEN:1}},{WAITING}))
 same => n,Dial(PJSIP/${{EXTEN:1}}@trunk,20,tT)
 same => n,Hangup()

[zammad-trunk]
exten => _X.,1,Dial(PJSIP/${{EXTEN}}@trunk,20)
 same => n,Hangup()
"""

_CONFIGURATION = """
[asterisk]
port = {ami_port}
username = "{account}"
secret = "{secret}"
trunks = ["PJSIP/trunk*"]

[zammad]
url = "{url}"
timeout = {zammad_timeout}

[numbers]
country = "DE"
outbound_prefix = "{outbound_prefix}"

[control]
reject = true
decision_timeout = {decision_timeout}
listen = "{listen}"
emergency = ["110", "112", "911", "999", "{local_emergency}"]
originate = true
originate_channel = "{originate_channel}"

[[agents]]
extension = "100"
name = "{emma}"

[ops]
listen = "{ops}"
token = "{token}"

[log]
format = "json"
level = "debug"
"""


def free_address() -> str:
    """Return an address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((PBX_HOST, 0))
        return f"{PBX_HOST}:{probe.getsockname()[1]}"


@dataclass
class Pbx:
    """A PBX for all tests of a module: bridges come and go."""

    asterisk: Asterisk
    rig: Rig
    fast_agi: str

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, version: str) -> AsyncIterator[Pbx]:
        """Start Asterisk with the shipped subroutines."""
        fast_agi = free_address()
        shipped = (config.SAMPLES / "extensions_zammad.conf").read_text()
        files = {"extensions_zammad.conf": shipped.replace("127.0.0.1:4573", fast_agi)}
        async with (
            Asterisk.start(version, dialplan=_DIALPLAN, files=files) as asterisk,
            await Rig.open(asterisk) as rig,
        ):
            yield cls(asterisk, rig, fast_agi)


@dataclass
class Scene:
    """One test: the PBX, a Zammad, perhaps a bridge, and what they are to agree on in the end."""

    pbx: Pbx
    zammad: ZammadSandbox
    config: Path
    ops: str
    _line: Line
    _bridge: DoomedBridge | None = field(default=None, repr=False)

    @property
    def rig(self) -> Rig:
        """Phones, trunk and eyes."""
        return self.pbx.rig

    @property
    def bridge(self) -> DoomedBridge:
        """The bridge; there must be one."""
        assert self._bridge is not None
        return self._bridge

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        pbx: Pbx,
        folder: Path,
        *,
        decision_timeout: float = NEVER,
        zammad_timeout: float = 5.0,
        outbound_prefix: str = SCREEN_OUT,
        originate_channel: str = "PJSIP/{number}@trunk",
        bridge: bool = True,
    ) -> AsyncIterator[Scene]:
        """Set the scene, and clear it when the test is over. Without a *bridge* nobody listens anywhere."""
        async with contextlib.AsyncExitStack() as stack:
            zammad = await stack.enter_async_context(ZammadSandbox())
            line = await stack.enter_async_context(Line.lay(pbx.asterisk.ami_port))
            scene = cls(pbx, zammad, folder / "ami2zammad.toml", free_address(), line)
            scene.config.write_text(
                _CONFIGURATION.format(
                    ami_port=line.port,
                    account=config.SHIPPED,
                    secret=pbx.asterisk.secrets[config.SHIPPED],
                    url=zammad.url,
                    zammad_timeout=zammad_timeout,
                    outbound_prefix=outbound_prefix,
                    originate_channel=originate_channel,
                    emma=config.PHONES["100"],
                    decision_timeout=decision_timeout,
                    listen=pbx.fast_agi,
                    local_emergency=LOCAL_EMERGENCY,
                    ops=scene.ops,
                    token=TOKEN,
                )
            )
            await pbx.rig.begin()
            stack.push_async_callback(scene._clear)
            if bridge:
                scene._bridge = await stack.enter_async_context(DoomedBridge.run(scene.config))
                await scene._bridge.logged("ami.snapshot")
            yield scene
            await pbx.rig.idle()

    async def _clear(self) -> None:
        await self.rig.hang_up_everything()
        await self.rig.idle()

    # What happens

    def dial(self, prefix: str, number: str = OUTSIDE) -> Call:
        """Let 100 dial a number through one of the ways out."""
        return self.rig.phones["100"].call(prefix + number)

    async def asked(self) -> Received:
        """Wait until Zammad has been asked about a call."""
        await self.zammad.wait_for(lambda zammad: any(request.event == "newCall" for request in zammad.requests))
        return next(request for request in self.zammad.requests if request.event == "newCall")

    async def lose_ami(self) -> None:
        """Cut the bridge's AMI connection; it makes a new one."""
        self._line.cut()
        await self.bridge.logged("ami.disconnected")

    async def through(self, emma: Call, outside: Call) -> None:
        """Let the far side take a call, talk, and hang up on both sides."""
        outside.answer()
        await emma.answered()
        await self.rig.talk()
        await emma.bye()
        await outside.ended()

    # What is to be seen

    async def decided(self) -> dict[str, str]:
        """Wait until the dialplan dials; return the last values of the channel variables, without ZAMMAD_ in front."""
        await self.rig.ami.event("DialBegin")
        prefix = "ZAMMAD_"
        variables = self.rig.ami.seen("VarSet", Variable=f"{prefix}*")
        return {event["Variable"].removeprefix(prefix): event["Value"] for event in variables}

    async def in_log(self, expected: Entry) -> LogEntry:
        """Wait for the end of the call; the caller log must have this one entry, its events taken in once each."""
        await self.zammad.wait_for(
            lambda zammad: bool(zammad.log) and all(row.state == "hangup" for row in zammad.log), PATIENCE
        )
        if self.bridge._process.returncode is None:
            await self.bridge.stop()  # whatever is still to be told is told then
        (row,) = self.zammad.log
        (events,) = by_entry(self.taken())
        wrong = differences(expected, events)
        assert not wrong, wrong
        return row

    def taken(self) -> list[Fields]:
        """Return what Zammad has taken in."""
        return [request.fields for request in self.zammad.requests if request.status == 200]
