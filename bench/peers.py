"""Other AMI clients, installed into a folder that goes when it is not needed any more.

They are no dependencies of anything: what cannot be had here and now is reported, and the rest is measured without.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.processes import NotMeasured
from bench.report import Report

_PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One AMI client that somebody else maintains."""

    name: str
    version: str
    command: tuple[str, ...]
    """What runs it, with the word PORT in it."""
    env: dict[str, str]


# Those that could be installed and took in the whole stream (looked at: November 2026).
_PYTHON = {"asterisk-ami": "0.1.7", "pystrix": "1.3.0", "pyami-asterisk": "1.5.2"}
_NODE = {"asterisk-manager": "0.2.0", "asterisk-ami-client": "1.1.5", "yana": "0.3.0"}


@contextlib.asynccontextmanager
async def installed(report: Report, *, quick: bool) -> AsyncIterator[list[Peer]]:
    """Give those that could be installed, for the length of an `async with`; none if `quick`."""
    if quick:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="ami2zammad-peers-") as folder:
        peers: list[Peer] = []
        for attempt in (_in_python(Path(folder) / "python"), _in_node(Path(folder) / "node")):
            try:
                peers += await attempt
            except NotMeasured as problem:
                report.missing.append(str(problem))
        yield peers


async def _in_python(folder: Path) -> list[Peer]:
    await _run(sys.executable, "-m", "venv", str(folder), what="the peers in Python")
    python = str(folder / "bin" / "python")
    packages = [f"{name}=={version}" for name, version in _PYTHON.items()]
    # A package may lack a wheel; setuptools is what its own build needs.
    await _run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages,
        what="the peers in Python",
    )  # fmt: skip
    return [
        Peer(name, version, (python, str(processes.CLIENTS / f"with_{_file(name)}.py"), "PORT"), {})
        for name, version in _PYTHON.items()
    ]


async def _in_node(folder: Path) -> list[Peer]:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise NotMeasured("the peers in JavaScript: node and npm are not installed")
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"private": True}), encoding="utf-8")
    packages = [f"{name}@{version}" for name, version in _NODE.items()]
    await _run(
        npm, "install", "--no-fund", "--no-audit", "--silent", "--prefix", str(folder), *packages,
        what="the peers in JavaScript",
    )  # fmt: skip
    env = {"NODE_PATH": str(folder / "node_modules")}
    return [
        Peer(name, version, (node, str(processes.CLIENTS / f"with_{_file(name)}.js"), "PORT"), env)
        for name, version in _NODE.items()
    ]


def _file(name: str) -> str:
    return name.replace("-", "_")


async def _run(*command: str, what: str) -> None:
    """Run an installer. Raises `NotMeasured` if it fails or takes for ever."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotMeasured(f"{what}: not installed within {_PATIENCE:.0f} s") from None
    if code:
        raise NotMeasured(f"{what}: they cannot be installed here")
