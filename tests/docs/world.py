"""A machine on which the documentation's commands can be run as they stand, without touching the one that it runs on.

The machine is this one with a layer of its own over the folders that the commands write to, in a mount namespace that
ends with the test. /etc/asterisk is that of a real Asterisk, whose console answers `asterisk -rx`. Zammad is
the stand-in. What needs systemd is played: `systemctl` by starting, stopping and signalling the bridge, the journal by
a program that shows the bridge's log as `journalctl` would.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ami2zammad.cli import _parser
from ami2zammad.outbox.records import to_text
from ami2zammad.outbox.store import Row, Store, Transaction
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.docs.pages import ROOT
from tests.e2e import config
from tests.e2e.asterisk import Asterisk
from tests.e2e.rig import Rig
from tests.e2e.scenarios import SCENARIOS
from tests.unit.zammad.samples import new_call

PATIENCE = 60.0
"""Seconds until a command is given up; the longest fetches packages."""
INSTALL_PATIENCE = 600.0

SET_ASIDE = 17
"""The event that the documentation's examples show, retry and discard."""
OPS_ADDRESS = "127.0.0.1:9469"
CALL_ID = "1795294371.98"
"""What stands in the documentation for the operations port and for the identity of a call."""
TOKEN = "token-of-the-documentation"

# The folders that commands write to get a layer that takes it. $1: the layers' folder, $2: Asterisk's configuration,
# $3: where the outbox is.
_BEGIN = """
mount -t tmpfs tmpfs "$1"
for folder in etc opt root usr/local var/lib; do
    mkdir -p "$1/upper/$folder" "$1/work/$folder"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/upper/$folder,workdir=$1/work/$folder" "/$folder"
done
rm -rf /etc/ami2zammad /opt/ami2zammad /usr/local/bin/ami2zammad
mkdir -p /etc/asterisk /etc/systemd/system /etc/sysusers.d /var/lib/ami2zammad
mount --bind "$2" /etc/asterisk
mount --bind "$3" /var/lib/ami2zammad
echo 'asterisk:x:64123:64123::/nonexistent:/usr/sbin/nologin' >> /etc/passwd
echo 'ami2zammad:x:64124:' >> /etc/group
exec sleep infinity
"""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As journalctl does: -g searches (and says by its exit code if it found something), the rest shows all.
_JOURNAL = """#!/bin/sh
pattern=.
while [ $# -gt 0 ]; do case "$1" in -g) pattern=$2; shift;; esac; shift; done
exec grep -E -- "$pattern" {log}
"""
_CONSOLE = r"""#!/bin/sh
exec nsenter --target {pid} --mount --root -- \
    sh -c 'cd /; exec /usr/sbin/asterisk -C /mnt/etc/asterisk.conf "$@"' sh "$@"
"""
_TOOLS = {"jq": "jq", "ss": "iproute2", "curl": "curl", "nsenter": "util-linux"}
_FAILED = re.compile(r"No such command|not found|does not exist|Unable to|no existence|There is no", re.IGNORECASE)


class CommandFailedError(AssertionError):
    """A command of the documentation did not do what a reader expects."""


class World:
    """The machine, the PBX, Zammad, and people at the phones; get it with :meth:`open`."""

    def __init__(self, pbx: Asterisk, rig: Rig, zammad: ZammadSandbox, folder: Path, holder: int) -> None:
        self._pbx = pbx
        self._rig = rig
        self._zammad = zammad
        self._folder = folder
        self._holder = holder
        self._log = folder / "journal"
        self._repository = folder / "ami2zammad"
        self._bridge: asyncio.subprocess.Process | None = None
        self._ops = f"127.0.0.1:{_free_port()}"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, version: str) -> AsyncIterator[World]:
        """Set all of it up for the length of an `async with`."""
        await asyncio.to_thread(_fetch_tools)
        async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig, ZammadSandbox() as zammad:
            _take_out_the_account(pbx)
            await pbx.cli("manager reload")
            with tempfile.TemporaryDirectory(prefix="ami2zammad-docs-") as name:
                folder = Path(name)
                _copy_the_repository(folder / "ami2zammad")
                (folder / "layers").mkdir()
                (folder / "state").mkdir()
                (folder / "journal").touch()
                holder = await asyncio.create_subprocess_exec(
                    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
                    *("sh", "-euc", _BEGIN, "sh"),
                    *(str(folder / "layers"), str(pbx.folder / "etc"), str(folder / "state")),
                )
                world = cls(pbx, rig, zammad, folder, holder.pid)
                try:
                    await world._begin(holder)
                    yield world
                finally:
                    await world._end()
                    holder.kill()
                    await holder.wait()

    async def _begin(self, holder: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(PATIENCE):
            # The script becomes this program when all is mounted.
            while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
                assert holder.returncode is None, "the machine could not be set up"
                await asyncio.sleep(0.02)
        process = self._pbx._process
        assert process is not None
        for name, text in (("journalctl", _JOURNAL), ("asterisk", _CONSOLE)):
            program = self._inside(f"/usr/local/bin/{name}")
            program.write_text(text.format(log=self._log, pid=process.pid))
            program.chmod(0o755)

    async def _end(self) -> None:
        if self._bridge is not None:
            with contextlib.suppress(ProcessLookupError):
                self._bridge.kill()
            await self._bridge.wait()

    def _inside(self, path: str) -> Path:
        """Return a file of the machine as it is seen from outside."""
        return Path(f"/proc/{self._holder}/root{path}")

    # -- what rules say ---------------------------------------------------------------------------------------

    async def run(self, command: str) -> str:
        """Run it as it stands; it must succeed. Returns what it printed."""
        code, text = await self._execute(command)
        if code:
            raise CommandFailedError(f"{command}\nexit code {code}\n{text}")
        return text

    async def install(self, command: str) -> None:
        """Run what installs the bridge."""
        await self.run(command)

    async def says_something(self, command: str) -> str:
        """Run it; there must be something to see."""
        text = await self.run(self._with_real_values(command))
        if not text.strip():
            raise CommandFailedError(f"{command}\nprints nothing")
        return text

    async def search(self, command: str) -> None:
        """Search the journal. A healthy log has not all that one can search for, but all of it can be in one."""
        code, text = await self._execute(command)
        if code not in {0, 1}:
            raise CommandFailedError(f"{command}\nexit code {code}\n{text}")
        pattern = shlex.split(command, comments=True)[-1]
        events = re.findall(r"(?m)^\| `([a-z_.]+)` \|", (ROOT / "docs" / "logs.md").read_text(encoding="utf-8"))
        if not any(re.search(pattern, event) for event in events):
            raise CommandFailedError(f"{command}\nno log event is called so")

    async def settings(self, command: str) -> None:
        """Let `init` write the settings; where it would ask, it gets told. Then switch the operations port on."""
        words = command.rpartition("ami2zammad init")[2] or " --yes --country DE --outbound-prefix 0"
        secret = self._pbx.secrets[config.SHIPPED]
        given = f"AMI2ZAMMAD_ASTERISK__SECRET={secret} AMI2ZAMMAD_ZAMMAD__URL={self._zammad.url}"
        file = self._inside("/etc/ami2zammad/ami2zammad.toml")
        # What is there may be of an earlier page: `init` would ask before it replaces it.
        file.unlink(missing_ok=True)
        await self.run(f"{given} ami2zammad init{words} --port {self._pbx.ami_port}")
        before, heading, ops = file.read_text().partition("\n[ops]\n")
        for old, new in (
            ('# listen = ""', f'listen = "{self._ops}"'),
            ('# token = "a-long-random-one"', f'token = "{TOKEN}"'),
        ):
            assert old in ops, ops
            ops = ops.replace(old, new, 1)
        file.write_text(before + heading + ops)

    async def account(self, command: str) -> None:
        """Give Asterisk the account, and change the secret in it."""
        await self.run(command)
        for file in (self._pbx.folder / "etc").rglob("*.conf"):
            text = file.read_text()
            if "secret = change-me" in text:
                file.write_text(text.replace("secret = change-me", f"secret = {self._pbx.secrets[config.SHIPPED]}"))

    async def console(self, command: str) -> None:
        """Run something on Asterisk's console, which says in words what is wrong."""
        text = await self.says_something(command)
        if _FAILED.search(text):
            raise CommandFailedError(f"{command}\n{text}")

    async def check(self, command: str) -> None:
        """Run `check`: all must be well."""
        text = await self.run(command)
        if "✗" in text or text.count("✓") < 5:
            raise CommandFailedError(f"{command}\n{text}")

    async def status(self, command: str) -> None:
        """Ask the running bridge how it is: well."""
        await self._start()
        await self.says_something(command)

    async def service(self, command: str) -> None:
        """Do what systemd would do with the bridge."""
        match command.split()[1]:
            case "start" | "enable":
                await self._start()
            case "stop":
                await self._stop()
            case "restart":
                await self._stop()
                await self._start()
            case "reload":
                # Who was told to stop it a page ago has started it again since.
                await self._start()
                await self._signal_and_wait(signal.SIGHUP, "bridge.reloaded")

    async def outbox(self, command: str) -> None:
        """Look at what was set aside, retry or discard it; there is something."""
        self._set_something_aside()
        await self.says_something(command)

    async def record(self, command: str) -> None:
        """Record while a call is placed, then press Ctrl-C."""
        file = self._repository / "case.ami"
        file.unlink(missing_ok=True)
        process = await self._launch(command, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                while b"record.started" not in (line := await process.stdout.readline()):
                    assert line, "it ended"
            await SCENARIOS["in_answer_caller_hangs_up"].place(self._rig)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                await process.communicate()
            if process.returncode or b"Newchannel" not in file.read_bytes():
                raise CommandFailedError(f"{command}\nexit code {process.returncode}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def dial(self, command: str) -> None:
        """Let a phone ring through the operations port, then give up."""
        await self._rig.begin()
        text = await self.says_something(command)
        if '"call_id"' not in text:
            raise CommandFailedError(f"{command}\n{text}")
        await self._rig.ringing("100")
        await self._rig.hang_up_everything()
        await self._rig.idle()

    async def target(self, command: str) -> None:
        """See that `make` knows how to do it."""
        await self.run(f"make --dry-run {shlex.split(command, comments=True)[1]}")

    async def synopsis(self, command: str) -> None:
        """See that the bridge knows such a command with such arguments, and each choice that is listed."""
        _, name, *rest = command.split(maxsplit=2)
        parsers = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
        parser = parsers.choices[name]
        usage = parser.format_usage()
        for word in re.findall(r"[A-Za-z]+", " ".join(rest)):
            assert word in usage, f"{command}: {word} is not in: {usage}"

    # -- what happens before and between the commands ------------------------------------------------------------

    async def live_a_little(self) -> None:
        """Let there be something in the log: a call that was answered, one that was not, a Zammad that was away."""
        await SCENARIOS["in_answer_caller_hangs_up"].place(self._rig)
        await self._zammad.down()
        await SCENARIOS["in_cancel"].place(self._rig)
        await self._logged(lambda line: line.get("event") == "zammad.unreachable")
        await self._zammad.up()
        calls = len(self._zammad.log)
        await self._zammad.wait_for(
            lambda z: len(z.log) > calls and all(row.state == "hangup" for row in z.log), PATIENCE
        )

    def _with_real_values(self, command: str) -> str:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        call_id = next((line["call_id"] for line in lines if line["event"] == "call.new"), CALL_ID)
        return command.replace(CALL_ID, call_id).replace(OPS_ADDRESS, self._ops)

    def _set_something_aside(self) -> None:
        # SQLite follows links by itself: through /proc it would end up on the machine outside.
        with contextlib.closing(Store(self._folder / "state" / "outbox.db")) as store:
            store.open()
            event = to_text(new_call("1795294371.17"))
            row = Row(
                SET_ASIDE, "1795294371.17", "1795294371.17", "newCall", time.time(), event, 8, "Error ID", time.time()
            )
            store.commit(Transaction({SET_ASIDE: row}))

    async def _start(self) -> None:
        if self._bridge is not None:
            return
        seen = self._count("ami.snapshot")
        with self._log.open("ab") as log:
            self._bridge = await self._launch("exec ami2zammad run", stdout=log)
        await self._logged(lambda _: self._count("ami.snapshot") > seen)

    async def _stop(self) -> None:
        if self._bridge is not None:
            self._bridge.terminate()
            async with asyncio.timeout(PATIENCE):
                assert await self._bridge.wait() == 0
            self._bridge = None

    async def _signal_and_wait(self, number: int, event: str) -> None:
        assert self._bridge is not None, "the bridge does not run"
        seen = self._count(event)
        self._bridge.send_signal(number)
        await self._logged(lambda _: self._count(event) > seen)

    def _count(self, event: str) -> int:
        return self._log.read_text().count(f'"event": "{event}"')

    async def _logged(self, matches: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
                if any(matches(line) for line in lines):
                    return
                assert self._bridge is None or self._bridge.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)  # a file tells nobody that it has grown

    async def _execute(self, command: str) -> tuple[int, str]:
        process = await self._launch(command, stdout=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(INSTALL_PATIENCE if "pip install" in command else PATIENCE):
                output, _ = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def _launch(self, command: str, stdout: Any) -> asyncio.subprocess.Process:
        # What the machine's pip needs to find its index stays; of the rest of the environment nothing does.
        passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "LANG"}
        environment = {"HOME": "/root", **passed, "PATH": _PATH, "TOKEN": TOKEN}
        return await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(self._holder), "--mount", f"--wd={self._repository}"),
            *("bash", "-o", "pipefail", "-uc", command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )


def _fetch_tools() -> None:
    """Install what commands of the documentation use and a bare Debian has not."""
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "-q", *command], check=True, capture_output=True, timeout=INSTALL_PATIENCE)


def _take_out_the_account(pbx: Asterisk) -> None:
    """Leave giving the bridge its account to the documentation; let manager.conf be like Debian's."""
    file = pbx.folder / "etc" / "manager.conf"
    (file.parent / "manager.d").mkdir()
    (file.parent / "manager_custom.conf").touch()
    kept = file.read_text().partition("; The account of ami2zammad")[0]
    file.write_text(f'{kept}\n#include "manager.d/*.conf"\n')


def _copy_the_repository(target: Path) -> None:
    unwanted = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "test-report")
    shutil.copytree(ROOT, target, ignore=unwanted)
    # `make --dry-run` looks at times: nothing shall seem to need an environment.
    (target / ".venv").mkdir()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
