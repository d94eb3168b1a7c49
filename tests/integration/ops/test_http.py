"""The operations port: who may dial, and what a wrong request is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from ami2zammad.admin.dial import DialFailedError, dial
from ami2zammad.ops.http import OpsServer
from ami2zammad.settings import AsteriskSettings, OpsSettings, OutboxSettings, Settings, ZammadSettings

TOKEN = "0123456789abcdef"


class RefusedError(Exception):
    """What the control says of a call that cannot be made."""


class Desk:
    """An operations server whose dialling is written down."""

    def __init__(self) -> None:
        self.dialled: list[tuple[str, str]] = []
        self.refuse = ""
        self.server = OpsServer("127.0.0.1", 0, token=TOKEN, dial=self.dial, refusal=RefusedError)

    async def dial(self, extension: str, number: str) -> str:
        if self.refuse:
            raise RefusedError(self.refuse)
        self.dialled.append((extension, number))
        return "pbx1-7"

    async def post(self, body: object = None, token: str | None = TOKEN, data: bytes | None = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.server.port}/dial",
                json=body if data is None else None,
                data=data,
                headers=headers,
            ) as response,
        ):
            return response.status, await response.text()

    def settings(self, token: str = TOKEN) -> Settings:
        return Settings(
            asterisk=AsteriskSettings(username="x", secret=SecretStr("x")),
            zammad=ZammadSettings(url=SecretStr("http://127.0.0.1:9/api/v1/cti/x")),
            outbox=OutboxSettings(path=None),
            ops=OpsSettings(listen=f"127.0.0.1:{self.server.port}", token=SecretStr(token)),
        )


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    one = Desk()
    async with one.server:
        yield one


async def test_dial(desk: Desk) -> None:
    assert await desk.post({"extension": "100", "number": "+492214710334"}) == (202, '{"call_id": "pbx1-7"}')
    assert desk.dialled == [("100", "+492214710334")]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "é"])
async def test_without_the_token_nothing_is_dialled(desk: Desk, token: str | None) -> None:
    status, text = await desk.post({"extension": "100", "number": "1"}, token=token)
    assert status == 401
    assert "ops.token" in text
    assert TOKEN not in text
    assert desk.dialled == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"extension": "100"}', b'{"extension": 100, "number": "1"}', b"\xff"]
)
async def test_a_body_that_makes_no_sense_is_explained(desk: Desk, data: bytes) -> None:
    status, text = await desk.post(data=data)
    assert status == 400
    assert "extension" in text
    assert desk.dialled == []


async def test_a_body_without_end_is_refused(desk: Desk) -> None:
    status, _ = await desk.post(data=b"x" * 100_000)
    assert status == 413


async def test_a_call_that_cannot_be_made_is_a_conflict(desk: Desk) -> None:
    desk.refuse = "there is no connection to Asterisk at the moment"
    status, text = await desk.post({"extension": "100", "number": "1"})
    assert status == 409
    assert desk.refuse in text


async def test_without_a_token_there_is_no_dial() -> None:
    desk = Desk()
    desk.server = OpsServer("127.0.0.1", 0, token="", dial=desk.dial, refusal=RefusedError)
    async with desk.server:
        assert (await desk.post({"extension": "100", "number": "1"}))[0] == 404


async def test_the_command(desk: Desk) -> None:
    assert await dial(desk.settings(), "100", "+492214710334") == "pbx1-7"
    desk.refuse = "number must be digits"
    with pytest.raises(DialFailedError, match="number must be digits"):
        await dial(desk.settings(), "100", "x")
    with pytest.raises(DialFailedError, match=r"Bearer <ops\.token>"):
        await dial(desk.settings("another-token-of-16"), "100", "1")


async def test_the_command_without_a_bridge_says_so(desk: Desk, tmp_path: Path) -> None:
    del tmp_path
    settings = desk.settings()
    await desk.server.__aexit__(None, None, None)
    with pytest.raises(DialFailedError, match=r"no bridge answers at ops\.listen") as caught:
        await dial(settings, "100", "1")
    assert TOKEN not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_the_command_without_the_setting_says_which() -> None:
    settings = Settings(
        asterisk=AsteriskSettings(username="x", secret=SecretStr("x")),
        zammad=ZammadSettings(url=SecretStr("http://127.0.0.1:9/api/v1/cti/x")),
        outbox=OutboxSettings(path=None),
    )
    with pytest.raises(DialFailedError, match=r"set ops\.listen and ops\.token"):
        await asyncio.wait_for(dial(settings, "100", "1"), 30)
