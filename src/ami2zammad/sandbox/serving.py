"""`sandbox`: a stand-in for Zammad with its caller log as a web page, to try a PBX without a Zammad."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TextIO

from ami2zammad.sandbox.page import add_pages
from ami2zammad.sandbox.zammad import ZammadSandbox


async def sandbox(host: str, port: int, token: str, output: TextIO) -> None:
    """Run the stand-in on `host` and `port` until Ctrl-C; say on `output` where it is.

    Raises OSError if that address cannot be listened on.
    """
    async with ZammadSandbox(host=host, port=port, token=token, pages=add_pages) as zammad:
        output.write(
            "A stand-in for Zammad is ready. Put this into the settings of ami2zammad:\n\n"
            f'  [zammad]\n  url = "{zammad.url}"\n\n'
            f"Its caller log: {zammad.base_url}/\nCtrl-C ends it; what it has is kept in memory only.\n"
        )
        output.flush()
        await until_interrupted()


async def until_interrupted() -> None:
    """Wait for Ctrl-C, which is how one ends a command that serves: no failure."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
