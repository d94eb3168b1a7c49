"""A terminal with a person at it: a program on a pseudo-terminal of its own, and who reads and types."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping

PATIENCE = 60.0
"""Seconds until a test gives up on something that takes one or two."""

AGAIN = 5.0
"""Seconds after which a person presses a key again."""


class Terminal:
    """`ami2zammad` with a terminal as its input and output; `screen` is all that was shown so far."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process = process
        self._master = master
        self._changed = asyncio.Event()
        self._read_up_to = 0
        self.screen = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, *arguments: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Terminal]:
        """Run it for the length of an `async with`; it is killed if it has not ended by then."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))

        def take_the_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ami2zammad", *arguments,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_the_terminal,
            env={**os.environ, "TERM": "xterm-256color", **(environ or {})},
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(master, False)
        terminal = cls(process, master)
        asyncio.get_running_loop().add_reader(master, terminal._read)
        try:
            yield terminal
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)

    async def expect(self, text: str) -> str:
        """Wait until a text is shown after what was waited for before; return all from there to the text's end."""
        async with asyncio.timeout(PATIENCE):
            while (found := self.screen.find(text, self._read_up_to)) < 0:
                self._changed.clear()
                try:
                    await self._changed.wait()
                except asyncio.CancelledError:
                    raise TimeoutError(f"{text!r} is not shown; what is:\n{self.screen}") from None
        begin, self._read_up_to = self._read_up_to, found + len(text)
        return self.screen[begin : self._read_up_to]

    def type(self, text: str, *, enter: bool = True) -> None:
        """Type something."""
        os.write(self._master, (text + ("\r" if enter else "")).encode())

    async def interrupt(self) -> int:
        """Press Ctrl-C, again if need be, and wait for the end; return the exit code.

        A key that is pressed after a prompt is written and before Python reads is noted, but does not end the reading.
        """
        while True:
            self.type("\x03", enter=False)
            try:
                async with asyncio.timeout(AGAIN):
                    await self._process.wait()
            except TimeoutError:
                continue
            return await self.ended()

    async def ended(self) -> int:
        """Wait for the end; return the exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
        self._read()
        return code

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self.screen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        except BlockingIOError:
            pass
        except OSError as error:
            # Linux says so when the last one who had the terminal is gone.
            if error.errno != errno.EIO:
                raise
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()
