"""`init` beside a real Asterisk: what it finds with which rights, and that the bridge works with what it writes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ami2zammad.admin.account import Account
from ami2zammad.admin.init import ACCOUNT_FILE
from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.survey import Endpoint, Gap, Survey, survey
from ami2zammad.sandbox.zammad import ZammadSandbox
from ami2zammad.settings import Settings, load_settings
from tests.caller_log import mismatches
from tests.e2e import config as rig_config, freepbx
from tests.e2e.ami import Ami
from tests.e2e.asterisk import Asterisk
from tests.e2e.bridge_process import PATIENCE, BridgeProcess
from tests.e2e.rig import OUTSIDE, Rig
from tests.e2e.scenarios import CHRIS, EMMA, SCENARIOS, ZOE, Entry, dialled, taken
from tests.terminal import Terminal

pytestmark = pytest.mark.e2e

AGENTS = [("100", EMMA), ("101", CHRIS), ("102", ZOE), ("103", "Offline Otto")]


async def init(config: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run it with nobody to ask; return the exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ami2zammad", "init", "--config", str(config), *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def secrets(pbx: Asterisk, zammad: ZammadSandbox, account: str = "least") -> dict[str, str]:
    return {"AMI2ZAMMAD_ASTERISK__SECRET": pbx.secrets[account], "AMI2ZAMMAD_ZAMMAD__URL": zammad.url}


def load(config: Path) -> Settings:
    return load_settings(config, environ={}, secret_directories=[])


def agents(config: Path) -> list[tuple[str, str]]:
    return [(agent.extension, agent.name) for agent in load(config).agents]


async def told(zammad: ZammadSandbox, *expected: Entry) -> None:
    """Wait until the caller log has so many rows, all ended; they must be these."""
    await zammad.wait_for(
        lambda z: len(z.log) >= len(expected) and all(row.state == "hangup" for row in z.log), PATIENCE
    )
    assert mismatches(expected, [received.fields for received in zammad.requests if received.status == 200]) == []


async def test_a_plain_asterisk(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
        complaints = pbx.log(10_000).count(" ERROR[")
        # The rights of the bridge's account are enough to find everything here.
        for account in ("full", "least"):
            config.unlink(missing_ok=True)
            code, text = await init(
                config, "--port", str(pbx.ami_port), "--username", account, "--country", "DE", "--outbound-prefix", "0",
                environ=secrets(pbx, zammad, account),
            )  # fmt: skip
            assert code == 0, text
            assert load(config).asterisk.trunks == ("PJSIP/trunk",)
            assert agents(config) == AGENTS
            assert "support: Emma Taylor, Christopher Miller" in text
            assert "PJSIP/trunk  its calls come in by context from-trunk" in text
            assert ("It may do more than the bridge needs" in text) is (account == "full")
            assert ("may not see" in text) is (account == "least")
            assert "\x1b" not in text
            for secret in (pbx.secrets[account], zammad.token):
                assert secret not in text
            assert config.stat().st_mode & 0o777 == 0o600

        # Nothing that was asked is an error in Asterisk's eyes.
        assert pbx.log(10_000).count(" ERROR[") == complaints

        before = config.read_bytes()
        code, text = await init(config, "--country", "DE", environ=secrets(pbx, zammad))
        assert code == 2
        assert "exists already; --force replaces it" in text
        assert config.read_bytes() == before
        assert list(tmp_path.iterdir()) == [config]

        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            names = ("in_answer_caller_hangs_up", "in_queue_answer", "out_answer")
            for name in names:
                await SCENARIOS[name].place(rig)
            await told(zammad, *(entry for name in names for entry in SCENARIOS[name].expected))


async def test_freepbx(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with (
        Asterisk.start(version, files=freepbx.files, trunk=freepbx.TRUNK) as pbx,
        await Rig.open(pbx) as rig,
        ZammadSandbox() as zammad,
    ):
        await pbx.cli(f'database put AMPUSER {freepbx.NAMELESS}/cidname "{AGENTS[3][1]}"')
        given = ["--port", str(pbx.ami_port), "--country", "DE", "--outbound-prefix", "9", "--force"]
        code, text = await init(config, *given, "--username", "least", environ=secrets(pbx, zammad))
        assert code == 0, text
        assert agents(config) == [*AGENTS[:3], (freepbx.NAMELESS, "")]
        assert "names that are only in FreePBX's database (write = reporting)" in text
        # What an account that sees more has found stays when the bridge's own comes after it.
        for account in ("full", "least"):
            code, text = await init(config, *given, "--username", account, environ=secrets(pbx, zammad, account))
            assert code == 0, text
            assert agents(config) == AGENTS
        settings = load(config)
        assert settings.asterisk.username == "least"
        assert settings.asterisk.trunks == ("PJSIP/anonymous", "PJSIP/sipgate")
        assert settings.asterisk.trunk_contexts[-3:] == ("from-dahdi", "from-sip-external", "from-zaptel")
        assert "600: Emma Taylor, Christopher Miller" in text

        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            await rig.begin()
            caller = rig.dial_in()
            (emma,) = await rig.ringing("100")
            emma.answer()
            await caller.answered()
            await rig.in_bridge("PJSIP/100")
            await rig.talk()
            await caller.bye()
            await emma.ended()

            await rig.begin()
            caller = rig.dial_in("4930600130")
            _, chris = await rig.ringing("100", "101")
            chris.answer()
            await rig.in_bridge("PJSIP/101")
            await rig.talk()
            await caller.bye()
            await chris.ended()

            await rig.begin()
            emma = rig.phones["100"].call(f"9{OUTSIDE}")
            outside = await rig.trunk.incoming()
            outside.ring()
            await emma.progress()
            outside.answer()
            await emma.answered()
            await rig.in_bridge("PJSIP/100")
            await rig.talk()
            await emma.bye()
            await outside.ended()
            await told(
                zammad,
                taken("100", EMMA),
                taken("101", EMMA, CHRIS, queue="600", to="4930600130"),
                dialled("normalClearing", answered=True),
            )


def with_manager_d(settings: rig_config.Settings) -> Mapping[str, str]:
    """Let manager.conf read what an administrator adds, as Debian's does."""
    return {"manager.conf": rig_config.files(settings)["manager.conf"] + "\n#tryinclude manager.d/*.conf\n"}


async def give_account(pbx: Asterisk, file: Path) -> None:
    """Do what init says: the file into manager.d, and reload."""
    folder = pbx.folder / "etc" / "manager.d"
    folder.mkdir(exist_ok=True)
    (folder / "ami2zammad.conf").write_bytes(file.read_bytes())
    await pbx.cli("manager reload")


async def test_an_account_that_is_missing(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    file = tmp_path / ACCOUNT_FILE
    async with Asterisk.start(version, files=with_manager_d) as pbx, ZammadSandbox() as zammad:
        given = ["--port", str(pbx.ami_port), "--country", "DE"]
        wrong = {**secrets(pbx, zammad), "AMI2ZAMMAD_ASTERISK__SECRET": "wr0ng-secret"}
        endpoint = {"AMI2ZAMMAD_ZAMMAD__URL": zammad.url}

        code, text = await init(config, *given, "--username", "least", environ=wrong)
        assert code == 1
        assert 'Asterisk refused the login of "least"' in text
        assert "wr0ng-secret" not in text
        assert [path.name for path in tmp_path.iterdir()] == [ACCOUNT_FILE]

        code, text = await init(config, *given, "--username", "bridge", environ=endpoint)
        assert code == 1
        assert "There is no secret yet" in text
        account = Account.parse(file.read_text())
        assert account is not None

        await pbx.stop()
        code, text = await init(config, *given, environ=endpoint)
        assert code == 1
        assert f"Nobody listens on 127.0.0.1:{pbx.ami_port}" in text
        assert "[bridge]" in text
        assert Account.parse(file.read_text()) == account
        assert account.secret not in text
        assert not config.exists()

        await pbx.run_again()
        await give_account(pbx, file)
        code, text = await init(config, *given, environ=endpoint)
        assert code == 0, text
        assert load(config).asterisk.username == "bridge"
        assert load(config).asterisk.secret.get_secret_value() == account.secret
        assert load(config).asterisk.trunks == ("PJSIP/trunk",)
        assert [path.name for path in tmp_path.iterdir()] == ["ami2zammad.toml"]


async def test_a_person_at_a_terminal(version: str, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with Asterisk.start(version, files=with_manager_d) as pbx, ZammadSandbox() as zammad:
        arguments = ("init", "--config", str(config))
        async with Terminal.run(*arguments, environ={"TZ": "UTC", "LANG": "de_DE.UTF-8"}) as terminal:
            await terminal.expect("Host or address of Asterisk [127.0.0.1]: ")
            terminal.type("")
            await terminal.expect("Port of its manager interface [5038]: ")
            terminal.type(str(pbx.ami_port))
            await terminal.expect("Account in its manager.conf [ami2zammad]: ")
            # The shipped account is in the rig's manager.conf already.
            terminal.type("zammad-bridge")
            await terminal.expect("Secret of zammad-bridge (Enter: there is no such account yet): ")
            terminal.type("")
            shown = await terminal.expect("or type the secret that it has already: ")
            account = Account.parse((tmp_path / ACCOUNT_FILE).read_text())
            assert account is not None
            assert f"secret = {account.secret}" in shown
            await give_account(pbx, tmp_path / ACCOUNT_FILE)
            terminal.type("")
            await terminal.expect("Trunks, with commas between them (- for none) [PJSIP/trunk]: ")
            terminal.type("trunk")
            await terminal.expect("all, queues (those in queues), none [all]: ")
            terminal.type("queues")
            await terminal.expect("in two letters [DE]: ")
            terminal.type("at")
            await terminal.expect("(- for nothing) [-]: ")
            terminal.type("0")
            await terminal.expect("Endpoint (https://...): ")
            terminal.type(zammad.url)
            await terminal.expect("Zammad takes it.")
            await terminal.expect(f"Write {config}? [Y/n]: ")
            terminal.type("")
            await terminal.expect("All is well.")
            assert await terminal.ended() == 0
        assert zammad.token not in terminal.screen
        settings = load(config)
        assert settings.asterisk.trunks == ("PJSIP/trunk",)
        assert agents(config) == AGENTS[:3]
        assert (settings.numbers.country, settings.numbers.outbound_prefix) == ("AT", "0")
        assert [path.name for path in tmp_path.iterdir()] == ["ami2zammad.toml"]


def other_drivers(settings: rig_config.Settings) -> Mapping[str, str]:
    """Load chan_sip, where there is one, and chan_iax2, with two peers each."""
    used = ("chan_sip", "chan_iax2")
    modules = [
        line for line in rig_config.MODULES.splitlines() if not line.endswith(tuple(f"{one}.so" for one in used))
    ]
    rights = "".join(
        f"\n[{account}]\nsecret = {settings.secrets['least']}\nread = call,agent\nwrite = call,originate,{right}\n"
        for account, right in (("reporter", "reporting"), ("systemic", "system"))
    )
    peers = """
[{phone}]
type=friend
host=dynamic
secret=x
context=from-internal
callerid="{name}" <{phone}>
[{trunk}]
type=peer
host=127.0.0.9
context=incoming
"""
    return {
        "modules.conf": "\n".join(modules) + "\n",
        "manager.conf": rig_config.files(settings)["manager.conf"] + rights,
        "sip.conf": "[general]\nudpbindaddr=127.0.0.1:0\n" + peers.format(phone="200", name="Sip Sally", trunk="acme"),
        "iax.conf": f"[general]\nbindaddr=127.0.0.8\nbindport={settings.ami_port}\n"
        + peers.format(phone="300", name="Iax Ida", trunk="office"),
    }


async def test_what_each_right_shows(version: str) -> None:
    iax = (
        Endpoint("IAX2", "300", "from-internal", "Iax Ida", "300"),
        Endpoint("IAX2", "office", "incoming", fixed_address=True),
    )
    pjsip = (
        *(Endpoint("PJSIP", number, "from-internal", name, number) for number, name in AGENTS),
        Endpoint("PJSIP", "trunk", "from-trunk"),
    )
    sip: tuple[Endpoint, ...] = ()
    if version == "16":  # 22 has no chan_sip any more
        sip = (
            Endpoint("SIP", "200", "from-internal", "Sip Sally", "200"),
            Endpoint("SIP", "acme", "incoming", fixed_address=True),
        )
    addresses = Gap("which endpoints Asterisk recognises by their address", "system")
    async with Asterisk.start(version, files=other_drivers) as pbx:
        secrets = {**pbx.secrets, "reporter": pbx.secrets["least"], "systemic": pbx.secrets["least"]}

        async def look(account: str) -> Survey:
            endpoint = AmiEndpoint("127.0.0.1", pbx.ami_port, account, secrets[account])
            session = await AmiSession.open(endpoint, lambda _: None)
            try:
                return await survey(session, ["parkedcalls", "from-trunk", "no-such-context"])
            finally:
                await session.close()

        least = await look("least")
        assert least.endpoints == pjsip
        assert least.contexts == {"parkedcalls", "from-trunk"}
        assert least.queues == ("rounds", "sales", "support", "support-local")
        assert ("support", "Emma Taylor", "PJSIP/100") in {
            (one.queue, one.name, one.interface) for one in least.members
        }
        assert {gap.right for gap in least.gaps} == {"reporting", "system"}
        assert addresses in least.gaps
        assert any("IAX2" in gap.what for gap in least.gaps)
        assert any("peers of SIP" in gap.what for gap in least.gaps) is bool(sip)

        reporter = await look("reporter")
        assert reporter.endpoints == (*iax, *pjsip, *sip)
        assert reporter.gaps == (addresses,)

        for account in ("systemic", "full"):
            found = await look(account)
            assert found.gaps == ()
            # Only now is it known that the trunk is recognised by its address.
            assert [one.channel for one in found.endpoints if one.fixed_address] == [
                "IAX2/office", "PJSIP/trunk", *(["SIP/acme"] if sip else []),
            ]  # fmt: skip

        mute = await look("mute")
        assert [one.channel for one in mute.endpoints] == ["PJSIP/100", "PJSIP/101", "PJSIP/102"]
        assert mute.gaps[0] == Gap("the devices", "call")
        assert await privileges(pbx) == {
            "DeviceStateList": "call,reporting,all",
            "Getvar": "call,reporting,all",
            "QueueStatus": "<none>",
            "PJSIPShowEndpoints": "system,all",
            "PJSIPShowEndpoint": "system,all",
            "PJSIPShowRegistrationsOutbound": "system,reporting,all",
            "IAXpeerlist": "system,reporting,all",
            **({"SIPpeers": "system,reporting,all"} if sip else {}),
        }


async def privileges(pbx: Asterisk) -> dict[str, str]:
    """Return what `write` must have for each action that the survey uses, by Asterisk's own account."""
    wanted = (
        *("DeviceStateList", "Getvar", "QueueStatus", "PJSIPShowEndpoints", "PJSIPShowEndpoint"),
        *("PJSIPShowRegistrationsOutbound", "IAXpeerlist", "SIPpeers"),
    )
    ami: Ami = await pbx.connect("full", events=False)
    try:
        commands = await ami.action("ListCommands")
    finally:
        await ami.close()
    found = {name: re.search(r"\(Priv: (.*)\)", commands[name]) for name in wanted if name in commands}
    return {name: match[1] for name, match in found.items() if match}
