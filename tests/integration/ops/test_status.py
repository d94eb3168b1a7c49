"""`ami2zammad status` as somebody at a terminal, a program and a container engine use it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ami2zammad.admin.status import NoStatusError, check
from ami2zammad.admin.status_table import status
from ami2zammad.cli import FAILED, FINE, USAGE
from ami2zammad.ops.http import OpsServer
from ami2zammad.ops.pages import Pages
from ami2zammad.ops.state import BridgeState
from ami2zammad.settings import Settings, load_settings
from tests.unit.ops.samples import HOSTILE, ILL, SCRIPT, WELL, Bridge, busy_activity

TOKEN = "0123456789abcdef"
PATIENCE = 60.0


@dataclass
class Desk:
    """A bridge, its port, and the settings that lead there."""

    bridge: Bridge
    server: OpsServer
    config: Path

    def settings(self) -> Settings:
        return load_settings(self.config, environ={}, secret_directories=[])

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command as a process; return exit code, output and complaints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", "status", "--config", str(self.config), *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


def write_config(config: Path, listen: str, token: str = TOKEN) -> None:
    config.write_text(
        '[asterisk]\nusername = "x"\nsecret = "c0rrect-h0rse"\n[zammad]\nurl = "http://127.0.0.1:9/api/v1/cti/x"\n'
        f'[outbox]\npath = ""\n[ops]\nlisten = "{listen}"\n' + (f'token = "{token}"\n' if token else ""),
        encoding="utf-8",
    )


@contextlib.asynccontextmanager
async def desk_of(state: BridgeState, folder: Path, host: str = "127.0.0.1") -> AsyncIterator[Desk]:
    bridge = Bridge(state)
    pages = Pages(bridge.look, busy_activity(bridge), wall=bridge.wall)

    async def dial(_: str, __: str) -> str:
        raise NotImplementedError

    async with OpsServer(host, 0, token=TOKEN, dial=dial, refusal=RuntimeError, pages=pages) as server:
        config = folder / "ami2zammad.toml"
        write_config(config, f"{host}:{server.port}")
        yield Desk(bridge, server, config)


async def shown(desk: Desk) -> tuple[bool, str]:
    """Return what `status` says without a process of its own."""
    output = io.StringIO()
    ready = await asyncio.to_thread(status, desk.settings(), as_json=False, watch=False, output=output)
    return ready, output.getvalue()


async def test_a_bridge_that_works(tmp_path: Path) -> None:
    async with desk_of(WELL, tmp_path) as desk:
        code, out, err = await desk.run()
        assert (code, err) == (FINE, "")
        for words in (
            "ami2zammad 0.1.0 (pbx1), running for 1 h 6 min: all is well", "connected for 1 h 5 min", "0 waiting",
            "192.0.2.17:5038", "last delivery 12 s ago", "on disk", "3 live calls", "4917699999•••", "Emma Taylor",
            "ringing", "4 min 7 s", "no reply within 5 s", "tried again", "took 1 min 15 s",
        ):  # fmt: skip
            assert words in out, words
        assert "4917699999999" not in out


async def test_a_bridge_in_trouble(tmp_path: Path) -> None:
    async with desk_of(ILL, tmp_path) as desk:
        code, out, _ = await desk.run()
        assert code == FAILED
        for words in ("not working", "Copy zammad.url again.", "not connected", "Nobody is calling.", "3 set aside"):
            assert words in out, words


async def test_json_for_programs(tmp_path: Path) -> None:
    async with desk_of(ILL, tmp_path) as desk:
        code, out, _ = await desk.run("--json")
        assert code == FAILED
        report = json.loads(out)
        assert (report["ready"], report["outbox"]["waiting"]) == (False, 1284)
        assert out.count("\n") == 1


async def test_check_says_nothing_unless_there_is_something(tmp_path: Path) -> None:
    async with desk_of(WELL, tmp_path) as desk:
        assert await desk.run("--check") == (FINE, "", "")
        desk.bridge.state = replace(WELL, zammad=ILL.zammad)
        assert await desk.run("--check") == (
            FAILED, "", "ami2zammad status: Zammad: Zammad does not know the token (401). Copy zammad.url again.\n",
        )  # fmt: skip


async def test_check_ends_with_1_whatever_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "none.toml"
    desk = Desk(Bridge(WELL), None, config)  # type: ignore[arg-type]  # nobody listens
    code, out, err = await desk.run("--check")
    assert (code, out) == (FAILED, "")
    assert "no such file" in err
    assert (await desk.run())[0] == USAGE
    write_config(config, "127.0.0.1:1")
    code, out, err = await desk.run("--check")
    assert (code, out) == (FAILED, "")
    assert "no bridge answers at ops.listen = 127.0.0.1:1; is it running?" in err
    assert (await desk.run("--check", "--watch"))[0] == USAGE


async def test_off_loopback_the_token_is_used(tmp_path: Path) -> None:
    async with desk_of(WELL, tmp_path, "0.0.0.0") as desk:  # noqa: S104 - asked over loopback only
        assert (await shown(desk))[0]
        write_config(desk.config, f"0.0.0.0:{desk.server.port}", "another-token-of-16")
        with pytest.raises(NoStatusError, match=r"the bridge answered 401: .*ops\.token") as caught:
            await shown(desk)
        assert "another" not in str(caught.value)
        # Without it there is still an answer for health checks.
        assert await asyncio.to_thread(check, desk.settings()) == []


async def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    state = replace(
        HOSTILE, calls=(replace(HOSTILE.calls[0], users=("[red]x[/red]", "[/]", "\x1b]0;owned\x07", SCRIPT)),)
    )
    async with desk_of(state, tmp_path) as desk:
        ready, text = await shown(desk)
        assert ready
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]x" in text.replace("\n", "")


async def test_without_the_setting_it_says_which(tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    write_config(config, "")
    with pytest.raises(NoStatusError, match=r"set ops\.listen"):
        status(load_settings(config, environ={}, secret_directories=[]), as_json=False, watch=False)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
async def test_something_else_on_the_port_is_no_bridge(answer: bytes, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        config = tmp_path / "ami2zammad.toml"
        write_config(config, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        settings = load_settings(config, environ={}, secret_directories=[])
        with pytest.raises(NoStatusError, match=r"ops\.listen = 127"):
            await asyncio.to_thread(status, settings, as_json=False, watch=False)


async def test_watching_on_a_terminal(tmp_path: Path) -> None:
    async with desk_of(WELL, tmp_path) as desk:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", "status", "--config", str(desk.config), "--watch",
            stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "50"},
        )  # fmt: skip
        os.close(theirs)
        seen = bytearray()
        loop = asyncio.get_running_loop()
        more = asyncio.Event()

        def read() -> None:
            with contextlib.suppress(OSError):
                seen.extend(os.read(ours, 65536))
            more.set()

        async def until(words: str) -> None:
            async with asyncio.timeout(PATIENCE):
                while words.encode() not in seen:
                    more.clear()
                    await more.wait()

        loop.add_reader(ours, read)
        try:
            await until("3 live calls")
            desk.bridge.state = ILL
            await until("Copy zammad.url again.")
            await desk.server.__aexit__(None, None, None)
            await until("no bridge answers")
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == FAILED
        finally:
            loop.remove_reader(ours)
            os.close(ours)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_watching_for_programs(tmp_path: Path) -> None:
    async with desk_of(WELL, tmp_path) as desk:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", "status", "--config", str(desk.config), "--watch", "--json",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert json.loads(await process.stdout.readline())["ready"]
            desk.bridge.state = ILL
            while json.loads(await process.stdout.readline())["ready"]:
                pass
            process.send_signal(signal.SIGINT)
            assert await process.wait() == FAILED
