"""The examples of dialplans, loaded into a real Asterisk together with the subroutines that they call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from tests.docs import pages
from tests.docs.pages import Block, Kind
from tests.e2e.asterisk import Asterisk

pytestmark = pytest.mark.e2e

PATIENCE = 30.0
"""Seconds until a test gives up on what takes a fraction of one."""

SUBROUTINES = (pages.ROOT / "config" / "asterisk" / "extensions_zammad.conf").read_text(encoding="utf-8")
EXAMPLES = [block for block in pages.blocks() if block.kind is Kind.DIALPLAN]


def with_context(block: Block) -> str:
    """Return an example as a whole: one that begins with an extension is from the midst of a context."""
    return block.text if block.text.lstrip().startswith(("[", ";")) else f"[example]\n{block.text}"


def extensions(text: str) -> Iterator[tuple[str, str]]:
    """Give context and extension of all that an example defines."""
    context = ""
    for line in text.splitlines():
        if heading := re.match(r"\[([^]]+)\]", line):
            context = heading[1]
        elif found := re.match(r"exten => ([^,]+),1,", line):
            yield context, found[1]


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_calls_only_subroutines_that_there_are(block: Block) -> None:
    called = set(re.findall(r"Gosub\((zammad-[a-z-]+),s,1", block.text))
    assert called <= set(re.findall(r"(?m)^\[([a-z-]+)\]", SUBROUTINES))


async def said_since(pbx: Asterisk, before: int, marker: str) -> str:
    """Return what Asterisk has logged. A call to nowhere is logged after it: what comes before that is complete."""
    await pbx.cli(f"channel originate Local/s@{marker} application NoOp")
    async with asyncio.timeout(PATIENCE):
        while True:
            said = (pbx.folder / "log" / "messages").read_bytes()[before:].decode(errors="replace")
            if marker in said:
                return said
            await asyncio.sleep(0.02)  # a file tells nobody that it has grown


async def test_every_real_asterisk_takes_every_example_without_a_word(asterisks: list[str]) -> None:
    assert EXAMPLES
    for version in asterisks:
        async with Asterisk.start(version, files={"extensions_zammad.conf": SUBROUTINES}) as pbx:
            for number, block in enumerate(EXAMPLES):
                await load(pbx, block, f"example-{number}-")


async def load(pbx: Asterisk, block: Block, marker: str) -> None:
    """Load an example: nothing must be complained of, and all of it must be there."""
    text = with_context(block)
    (pbx.folder / "etc" / "extensions.conf").write_text(f"#include extensions_zammad.conf\n{text}")
    before = (pbx.folder / "log" / "messages").stat().st_size
    await pbx.cli("dialplan reload")
    said = await said_since(pbx, before, marker)
    assert not re.search(r"(?i)\b(warning|error)\b", said), f"{block}: {said}"
    assert list(extensions(text)), block
    for context, extension in extensions(text):
        shown = await pbx.cli(f"dialplan show {context}")
        assert f"'{extension}' =>" in shown, f"{block}: {extension}@{context}\n{shown}"
    # The console fails for what is not there, and so does `cli`.
    for application in set(re.findall(r"(?:,\d+,|,n,|\),)([A-Z][A-Za-z]+)\(", text)):
        await pbx.cli(f"core show application {application}")
    for function in set(re.findall(r"\$\{([A-Z]+)\(", text)):
        await pbx.cli(f"core show function {function}")
