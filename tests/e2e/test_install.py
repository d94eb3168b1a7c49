"""A newcomer's walk: from a bare Debian 12 to a real call in the caller log, with the package, `init` and the service.

The Debian is a machine of its own with a real systemd; only its network is this machine's. Nothing of this repository
is in it but the package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.caller_log import mismatches
from tests.e2e import rootfs
from tests.e2e.asterisk import Asterisk
from tests.e2e.conftest import VERSIONS, in_ci
from tests.e2e.rig import Rig
from tests.e2e.scenarios import SCENARIOS
from tests.packaging.conftest import available, packages
from tests.packaging.machine import Machine, debian
from tests.packaging.namespaces import wait_until
from tests.packaging.service import Service

pytestmark = pytest.mark.e2e

__all__ = ["packages"]

PATIENCE = 60.0
CALLS = ("in_answer_caller_hangs_up", "in_queue_answer", "in_cancel", "out_answer")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A bare Debian 12 that has booted."""
    with debian(available("12"), boot=True) as machine:
        yield machine


def newest_asterisk() -> str:
    """Return the first Asterisk that can be had here."""
    reasons = []
    for version in VERSIONS:
        try:
            rootfs.ensure(version)
        except rootfs.RootfsUnavailable as error:
            reasons.append(str(error))
        else:
            return version
    if in_ci():
        pytest.fail(f"no real Asterisk at all, which CI must not do without: {reasons}", pytrace=False)
    pytest.skip(f"no Asterisk here: {reasons}")


async def all_over(zammad: ZammadSandbox, entries: int) -> None:
    """Wait until the caller log has so many entries, all of them ended."""
    await zammad.wait_for(lambda z: len(z.log) == entries and all(row.state == "hangup" for row in z.log), PATIENCE)


def ended(service: Service) -> int:
    """Return how many entries the service has seen end since the machine started."""
    return sum(event["event"] == "call.ended" for event in service.events())


async def test_from_a_bare_debian_to_a_call_in_the_caller_log(machine: Machine, packages: dict[str, Path]) -> None:
    version = newest_asterisk()
    # 1. The package.
    machine.install(machine.take(packages["12"], "ami2zammad.deb"))
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
        # 2. What the administrator has in hand: the account's secret, Zammad's endpoint.
        for name, text in (("secret", pbx.secrets["least"]), ("url", zammad.url)):
            file = machine.root / "root" / name
            file.write_text(text)
            file.chmod(0o600)
        # 3. init finds the rest, writes the settings and checks them.
        code, text = await asyncio.to_thread(
            machine.attempt,
            *("ami2zammad", "init", "--yes", "--port", str(pbx.ami_port), "--username", "least"),
            *("--secret-file", "/root/secret", "--url-file", "/root/url", "--country", "DE", "--outbound-prefix", "0"),
        )
        assert code == 0, text
        assert "✗" not in text
        assert pbx.secrets["least"] not in text
        assert zammad.token not in text
        stat = await asyncio.to_thread(machine.run, "stat", "--format=%a %U %G", "/etc/ami2zammad/ami2zammad.toml")
        assert stat == "640 root ami2zammad\n"
        # 4. The service: returns when Asterisk has let the bridge in.
        service = Service(machine)
        await asyncio.to_thread(service.do, "enable", "--now")
        assert service.get("ActiveState") == "active"
        # 5. Calls.
        entries = 0
        for name in CALLS:
            seen = len(zammad.requests)
            await SCENARIOS[name].place(rig)
            entries += len(SCENARIOS[name].expected)
            await all_over(zammad, entries)
            assert mismatches(SCENARIOS[name].expected, [one.fields for one in list(zammad.requests)[seen:]]) == []
        # 6. What the journal says of it, and what it does not say.
        events = [event["event"] for event in await asyncio.to_thread(service.events)]
        assert events.count("call.new") == events.count("call.ended") == entries
        assert "bridge.failed" not in events
        journal = await asyncio.to_thread(machine.run, "journalctl", "--boot", "-o", "cat")
        assert pbx.secrets["least"] not in journal
        assert zammad.token not in journal
        # 7. Even with Zammad away nothing is lost over a restart of the whole machine.
        await zammad.down()
        await SCENARIOS["in_cancel"].place(rig)
        await asyncio.to_thread(wait_until, lambda: ended(service) == entries + 1, "the bridge has seen the call end")
        machine.stop()
        await zammad.up()
        machine.start(boot=True)
        await all_over(zammad, entries + 1)
        assert zammad.log[-1].cause == "cancel"
