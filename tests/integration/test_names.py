"""Names in the languages of the world, from the PBX's bytes through a bridge process into Zammad's caller log."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.bridge_process import PATIENCE, BridgeProcess

RECORDINGS = Path(__file__).parents[1] / "recordings" / "22"

# Latin with marks (composed and combining), Greek, Cyrillic, Chinese, Korean, right to left, one outside the BMP.
NAMES = (
    "Zoë Müller-Østergård",
    "Jose\u0301 Nun\u0303ez",
    "Ελένη Παπαδοπούλου",
    "Жанна д'Арк",
    "李小龍",
    "김철수",
    "محمد علي",
    'Ann "Annie" O\'Neil [Berlin]',
    "Emma 👩‍💻",
)
QUEUE = "підтримка"

CONFIGURATION = """
[asterisk]
port = {port}
username = "ami2zammad"
secret = "sandbox"
trunks = ["PJSIP/trunk*"]

[zammad]
url = "{url}"
format = "{form}"

[log]
format = "json"
"""


def another_call(recorded: bytes, number: int, names: dict[bytes, str]) -> bytes:
    """Return a recorded message as one of another call, with other names."""
    for old, new in names.items():
        recorded = recorded.replace(old, new.encode())
    return re.sub(rb"17953[0-9]{5}[.]", b"18000000%02d." % number, recorded)


@pytest.mark.parametrize("form", ["json", "form"])
async def test_names_of_the_pbx_arrive_whole_however_tcp_cuts_them(tmp_path: Path, form: str) -> None:
    config = tmp_path / "ami2zammad.toml"
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        config.write_text(CONFIGURATION.format(port=pbx.port, url=zammad.url, form=form), encoding="utf-8")
        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            # Three bytes at a time: every name is cut inside a character.
            pbx.segment = 3
            for number, name in enumerate(NAMES):
                rewrite = functools.partial(another_call, number=number, names={b"Emma Taylor": name})
                await pbx.play(RECORDINGS / "in_answer_caller_hangs_up.ami", speed=1000, rewrite=rewrite)
            await zammad.wait_for(
                lambda z: len(z.log) == len(NAMES) and all(row.state == "hangup" for row in z.log), PATIENCE
            )
        assert [row.to_comment for row in zammad.log] == list(NAMES)
        sent = {str(request.fields["user"]) for request in zammad.requests if request.event == "answer"}
        assert sent == set(NAMES)
        told = [line["user"] for line in bridge.lines if line["event"] == "call.answered"]
        assert told == list(NAMES)


async def test_names_of_queues_and_of_configured_agents_arrive_whole(tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    agents = f'[[agents]]\nextension = "101"\nname = {json.dumps(NAMES[4])}\n'
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        settings = CONFIGURATION.format(port=pbx.port, url=zammad.url, form="json") + agents
        config.write_text(settings, encoding="utf-8")
        async with BridgeProcess.run(config) as bridge:
            await bridge.logged("ami.snapshot")
            names = {b"Queue: support\r": f"Queue: {QUEUE}\r", b"Emma Taylor": NAMES[3]}
            rewrite = functools.partial(another_call, number=1, names=names)
            await pbx.play(RECORDINGS / "in_queue_answer.ami", speed=1000, rewrite=rewrite)
            await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", PATIENCE)
        new_call = next(request.fields for request in zammad.requests if request.event == "newCall")
        assert new_call["queue"] == QUEUE
        assert new_call["user"] == [NAMES[3], NAMES[4]]
        assert zammad.log[0].to_comment == NAMES[4]
