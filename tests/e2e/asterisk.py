"""A real Asterisk in a chroot, with phones 100 to 103, a trunk, and a dialplan that has it all.

Everything runs as one process in a mount namespace of its own: ``setpriv`` (dies with the test run) →
``unshare --mount`` → ``sh`` (bind mounts) → ``chroot`` → ``asterisk``, each replacing the one before. When that
process ends, however it ends, the kernel drops the mounts; nothing has to be cleaned up by hand.

Addresses: Asterisk is 127.0.0.1, the trunk's far side 127.0.0.2 (identified by that address), the phones are
127.0.0.3 (identified by the user in From).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e import config, rootfs
from tests.e2e.ami import PATIENCE, Ami, AmiError
from tests.ports import lasting_port

PBX_HOST = "127.0.0.1"
TRUNK_HOST = "127.0.0.2"
PHONE_HOST = "127.0.0.3"

Files = Mapping[str, str] | Callable[[config.Settings], Mapping[str, str]]

RTP_PORTS = 400
"""Each channel takes two; two hundred calls' worth at the same time."""


class AsteriskError(Exception):
    """Asterisk did not start, or died; the text has the end of its log."""


@dataclass(slots=True)
class Asterisk:
    """One Asterisk; get it with :meth:`start`."""

    version: str
    root: Path
    folder: Path
    ami_port: int
    sip_port: int
    trunk_port: int
    phone_ports: Mapping[str, int]
    endpoints: frozenset[str]
    """PJSIP endpoints without which it is not ready."""
    secrets: Mapping[str, str]
    """The AMI accounts: ``least`` (what the bridge is to live with), ``full`` (reads everything), ``rig``, and
    ``deaf`` and ``mute``, which have too few rights."""
    _process: asyncio.subprocess.Process | None = None
    _control: Ami | None = field(default=None, repr=False)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, version: str, *, dialplan: str = "", files: Files | None = None, trunk: str = "trunk"
    ) -> AsyncIterator[Asterisk]:
        """Run Asterisk *version* ("22" or "16") for the length of an ``async with``.

        *dialplan* is added at the end of extensions.conf, *files* replace or add configuration files; a function of
        the settings may make them, so that they know the ports. *trunk* is what they call the trunk's endpoint.
        Raises :class:`tests.e2e.rootfs.RootfsUnavailable` where this Asterisk cannot be had.
        """
        root = await asyncio.to_thread(rootfs.ensure, version)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="ami2zammad-asterisk-"))
        pbx = cls(
            version=version,
            root=root,
            folder=folder,
            ami_port=lasting_port(PBX_HOST, socket.SOCK_STREAM),
            sip_port=lasting_port(PBX_HOST, socket.SOCK_DGRAM),
            trunk_port=lasting_port(TRUNK_HOST, socket.SOCK_DGRAM),
            endpoints=frozenset({*config.PHONES, trunk}),
            phone_ports={number: lasting_port(PHONE_HOST, socket.SOCK_DGRAM) for number in config.PHONES},
            secrets={account: secrets.token_hex(8) for account in config.ACCOUNTS},
        )
        try:
            await asyncio.to_thread(pbx._configure, dialplan, files or {})
            await pbx._launch()
            yield pbx
        finally:
            await pbx.kill()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process of the Asterisk that runs."""
        if self._process is None:
            raise AsteriskError("it does not run")
        return self._process.pid

    async def connect(self, account: str = "rig", *, events: bool = True) -> Ami:
        """Open an AMI session with one of the accounts."""
        return await Ami.connect(self.ami_port, account, self.secrets[account], events=events)

    async def cli(self, command: str) -> str:
        """Run a command of Asterisk's console and return what it prints."""
        if self._control is None or self._control.closed:
            self._control = await self.connect(events=False)
        return await self._control.cli(command)

    async def kill(self) -> None:
        """End Asterisk at once, as a crash or a power cut would: no farewell on any connection."""
        if self._control is not None:
            await self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def stop(self) -> None:
        """Stop Asterisk as an administrator does (``core stop now``): it tells its AMI clients."""
        with contextlib.suppress(AmiError, OSError):  # the connection may end before the answer comes
            await self.cli("core stop now")
        if self._process is not None:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        await self.kill()

    async def run_again(self) -> None:
        """Start Asterisk again after :meth:`kill` or :meth:`stop`, with the same ports and configuration."""
        await self._launch()

    async def restart(self) -> None:
        """Stop and start; channel names begin at -00000000 again."""
        await self.stop()
        await self.run_again()

    def log(self, lines: int = 40) -> str:
        """Return the end of Asterisk's own log and of what it printed."""
        texts = []
        for path in (self.folder / "log" / "messages", self.folder / "console"):
            if path.exists():
                texts += path.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(texts)

    def _configure(self, dialplan: str, files: Files) -> None:
        for name in ("etc", "log", "run", "spool", "db", "keys/keys", "moh"):
            (self.folder / name).mkdir(parents=True)
        # Ten seconds of silence, so that there is music on hold (and its events) as on a real PBX.
        (self.folder / "moh" / "silence.sln").write_bytes(bytes(2 * 8000 * 10))
        rtp_start = random.randrange(20000, 60000, 2)  # noqa: S311 - only to keep runs apart
        modules = next(self.root.glob("usr/lib/**/asterisk/modules"))
        settings = config.Settings(
            module_folder="/" + str(modules.relative_to(self.root)),
            sip=f"{PBX_HOST}:{self.sip_port}",
            ami_host=PBX_HOST,
            ami_port=self.ami_port,
            trunk=f"{TRUNK_HOST}:{self.trunk_port}",
            trunk_host=TRUNK_HOST,
            phones={number: f"{PHONE_HOST}:{port}" for number, port in self.phone_ports.items()},
            rtp=(rtp_start, rtp_start + RTP_PORTS),
            secrets=self.secrets,
        )
        written = config.files(settings)
        written["extensions.conf"] += "\n" + dialplan
        for name, text in {**written, **(files(settings) if callable(files) else files)}.items():
            (self.folder / "etc" / name).write_text(text)

    async def _launch(self) -> None:
        script = (
            'mount --bind "$1" "$2/mnt"; mount -t proc proc "$2/proc"; mount --rbind /dev "$2/dev"; '
            'exec chroot "$2" /usr/sbin/asterisk -f -C /mnt/etc/asterisk.conf'
        )
        with (self.folder / "console").open("ab") as console:
            self._process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"),
                *("sh", "-euc", script, "sh", str(self.folder), str(self.root)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready()
        except (TimeoutError, AsteriskError) as error:
            log = await asyncio.to_thread(self.log)
            await self.kill()
            raise AsteriskError(f"Asterisk {self.version} did not start: {error}\n{log}") from None

    async def _ready(self) -> None:
        """Wait until the AMI lets us in, everything is loaded, and all endpoints are there."""
        while True:
            if self._process is None or self._process.returncode is not None:
                raise AsteriskError("it ended by itself")
            with contextlib.suppress(AmiError, OSError, asyncio.IncompleteReadError):
                self._control = await self.connect()
                break
            await asyncio.sleep(0.05)  # nobody listens yet; there is nothing to wait on but that
        await self._control.event("FullyBooted")
        while True:
            try:
                found = await self._control.collect("PJSIPShowEndpoints", "EndpointListComplete")
            except AmiError:  # "No endpoints found", or the module is not loaded
                found = []
            if self.endpoints <= {one.get("ObjectName", "") for one in found}:
                return
            await asyncio.sleep(0.05)
