"""Record what a real Asterisk tells its AMI clients while the scenarios are played.

``python -m tests.e2e.record --version 22 --version 16 --out tests/recordings [scenario …]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
import traceback
from pathlib import Path

from tests.e2e.ami import PATIENCE, parse
from tests.e2e.asterisk import Asterisk
from tests.e2e.rig import Rig
from tests.e2e.rootfs import RootfsUnavailable
from tests.e2e.scenarios import SCENARIOS, Scenario

QUIET = 0.15
"""Seconds without an event after the last Hangup: then the stragglers (AgentComplete …) are in too."""


class Recorder:
    """An AMI session that keeps every byte, with the moment of arrival noted in each event."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._recorded = [greeting]
        self._channels: set[str] = set()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, pbx: Asterisk, account: str) -> Recorder:
        """Log in; the recording begins with the greeting and the answer to the login."""
        reader, writer = await asyncio.open_connection("127.0.0.1", pbx.ami_port)
        greeting = await reader.readline()
        writer.write(f"Action: Login\r\nUsername: {account}\r\nSecret: {pbx.secrets[account]}\r\n\r\n".encode())
        return cls(reader, writer, greeting)

    async def ask(self, **headers: str) -> None:
        """Send an action; what comes back is part of the recording."""
        self._writer.write("".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n")
        await self._writer.drain()

    async def finish(self) -> bytes:
        """Wait until all channels that were seen are gone and it is quiet; return the recording."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), QUIET)
                except TimeoutError:
                    if not self._channels:
                        break
        await self.close()
        return b"".join(self._recorded)

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        while True:
            block = await self._reader.readuntil(b"\r\n\r\n")
            now = time.time()
            first, _, rest = block.partition(b"\r\n")
            if first.startswith(b"Event: "):
                # Where Asterisk's own `timestampevents = yes` puts it.
                privilege, separator, rest = rest.partition(b"\r\n")
                if privilege.startswith(b"Privilege: "):
                    block = first + b"\r\n" + privilege + separator
                else:  # part of a list that answers an action
                    block, rest = first + b"\r\n", privilege + separator + rest
                block += f"Timestamp: {now:.6f}\r\n".encode() + rest
            self._recorded.append(block)
            message = parse(block)
            if message.get("Event") == "Newchannel":
                self._channels.add(message["Uniqueid"])
            elif message.get("Event") == "Hangup":
                self._channels.discard(message["Uniqueid"])
            self._changed.set()


async def _ask_in_voicemail(rig: Rig, recorder: Recorder) -> None:
    """Ask what the caller is doing once the voicemail has it: an account like `least` sees no Newexten."""
    await rig.ami.until(lambda: not rig.ami.seen("Newexten", Application="VoiceMail"))  # the last one's
    running = await rig.application("VoiceMail")
    await recorder.ask(Action="Status", ActionID="voicemail", Channel=running["Channel"])


async def record(pbx: Asterisk, rig: Rig, scenario: Scenario, accounts: list[str]) -> dict[str, bytes]:
    """Play one scenario and return the recording of each account."""
    recorders = {account: await Recorder.open(pbx, account) for account in accounts}
    asking = None
    try:
        await rig.begin()
        if scenario.voicemail:
            asking = asyncio.create_task(_ask_in_voicemail(rig, recorders["least"]))
        await scenario.place(rig)
        if asking is not None:
            await asking
        return {account: await recorder.finish() for account, recorder in recorders.items()}
    finally:
        if asking is not None:
            asking.cancel()
        for recorder in recorders.values():
            await recorder.close()


async def record_all(version: str, names: list[str], out: Path) -> list[str]:
    """Record scenarios on one Asterisk; return the names of those that went wrong."""
    failed = []
    async with Asterisk.start(version) as pbx, await Rig.open(pbx) as rig:
        for name in names:
            started = time.monotonic()
            try:
                recordings = await record(pbx, rig, SCENARIOS[name], ["least", *(["full"] if version == "22" else [])])
            except Exception:  # noqa: BLE001 - go on with the others, and say so at the end
                traceback.print_exc()
                failed.append(f"{version}/{name}")
                print(f"{version} {name}: FAILED", flush=True)
                continue
            for account, data in recordings.items():
                folder = out / (version if account == "least" else f"{version}-{account}")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}.ami").write_bytes(data)
            print(f"{version} {name}: {time.monotonic() - started:.1f} s", flush=True)
    return failed


def main() -> int:
    """Record; the exit status says whether all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", action="append", choices=["22", "16"], help="Asterisk version (default: both)")
    parser.add_argument("--out", type=Path, default=Path("tests/recordings"))
    parser.add_argument("scenario", nargs="*", help="names (default: all)")
    arguments = parser.parse_args()
    names = arguments.scenario or list(SCENARIOS)
    failed: list[str] = []
    for version in arguments.version or ["22", "16"]:
        try:
            failed += asyncio.run(record_all(version, names, arguments.out))
        except RootfsUnavailable as reason:
            print(reason, file=sys.stderr)
            failed.append(version)
    if failed:
        print("failed:", *failed, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
