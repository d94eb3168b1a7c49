"""Programs under measurement, each a process of its own, and what the kernel says that they cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_UNIT = Path(__file__).parent.parent / "systemd" / "ami2zammad.service"
CLIENTS = Path(__file__).parent / "clients"
PATIENCE = 120.0
"""Seconds until something that should take a fraction of that is given up."""
_ACCOUNT = 'username = "ami2zammad", secret = "sandbox"'
_TICKS = os.sysconf("SC_CLK_TCK")


class NotMeasured(Exception):  # noqa: N818 -- a finding, not a fault of the bench
    """Something cannot be measured here; the text says why."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of what is measured: compiled modules are kept, as after any installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **(more or {})}


def unit_environment() -> dict[str, str]:
    """Return the environment that the systemd unit gives the bridge."""
    lines = _UNIT.read_text(encoding="utf-8").splitlines()
    settings = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    return {name: value for name, _, value in (setting.partition("=") for setting in settings)}


class Program:
    """A running program that may say things on its standard output, in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def line(self) -> str:
        """Return the next line that it says. Raises `NotMeasured` if it ends instead, or says nothing for long."""
        assert self._process.stdout is not None  # noqa: S101 -- `running` sees to it
        try:
            async with asyncio.timeout(PATIENCE):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise NotMeasured(f"it said nothing for {PATIENCE:.0f} s") from None
        if not line:
            raise NotMeasured("it ended: " + await self._last_words())
        return line.decode("utf-8", "replace").rstrip("\n")

    async def ready(self) -> None:
        """Wait until it says `ready`, whatever it says before."""
        while await self.line() != "ready":
            pass

    async def result(self) -> dict[str, Any]:
        """Return the JSON object that it says."""
        while True:
            line = await self.line()
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found

    async def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        await self._process.communicate()
        assert self._process.returncode is not None  # noqa: S101 -- it has ended
        return self._process.returncode

    async def _last_words(self) -> str:
        if self._process.stderr is None:
            return "without a word"
        said = (await self._process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else "without a word"

    def cpu(self) -> float:
        """Return the seconds of processor time that it has used."""
        return cpu_of(self.pid)

    def rss(self) -> float:
        """Return the bytes of memory that it occupies (resident set)."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024.0
        raise NotMeasured("the kernel does not say how much memory it has")


def cpu_of(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None, quiet: bool = False
) -> AsyncIterator[Program]:
    """Run `command` for the length of an `async with`, and end it then. `quiet`: what it says goes nowhere."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
        env=env or environment(),
        cwd=cwd,
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def client(name: str, *arguments: object) -> list[str]:
    """Return the command that runs one of the clients with this Python."""
    return [sys.executable, str(CLIENTS / name), *map(str, arguments)]


@contextlib.asynccontextmanager
async def bridge(
    ami_port: int,
    zammad_url: str,
    *,
    outbox: Path | None = None,
    in_memory: bool = False,
    settings: str = "",
    account: str = _ACCOUNT,
) -> AsyncIterator[Program]:
    """Run the bridge as it is run in earnest; its log goes nowhere, its outbox into `outbox` or a file of its own.

    `in_memory`: without a file. `settings` are more of them, as TOML, `account` the account as keys of the section
    `asterisk`.
    """
    with tempfile.TemporaryDirectory(prefix="ami2zammad-bench-") as folder:
        file = Path(folder) / "ami2zammad.toml"
        path = "" if in_memory else outbox or Path(folder) / "outbox.db"
        file.write_text(
            f"asterisk = {{ port = {ami_port}, {account} }}\n"
            f'zammad = {{ url = "{zammad_url}" }}\n'
            f'outbox = {{ path = "{path}", limit = 1_000_000, drain_rate = 10_000 }}\n'
            f"{settings}\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "ami2zammad", "run", "--config", str(file)]
        async with running(command, env=environment(unit_environment()), quiet=True) as program:
            yield program
