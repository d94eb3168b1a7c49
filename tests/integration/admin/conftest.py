"""What several tests of this folder need."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from ami2zammad.sandbox.pbx import Headers, PbxSandbox

SECRET = "c0rrect-h0rse-battery"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMI2ZAMMAD_ASTERISK__SECRET", "AMI2ZAMMAD_ZAMMAD__URL"):
        monkeypatch.delenv(name, raising=False)


def furnish(pbx: PbxSandbox) -> None:
    """Give it two phones, a trunk and a queue, as an account of few rights gets to see them."""
    pbx.listings["devicestatelist"] = [
        {"Event": "DeviceStateChange", "Device": device, "State": "NOT_INUSE"}
        for device in ("PJSIP/100", "PJSIP/101", "PJSIP/sipgate", "Queue:support_avail", "Local/100@from-queue/n")
    ]
    pbx.listings["queuestatus"] = [
        {"Event": "QueueParams", "Queue": "support", "Strategy": "ringall"},
        member("support", "Emma Taylor", "PJSIP/100"),
    ]
    pbx.variables |= {
        **endpoint("100", "from-internal", '"Emma Taylor" <100>'),
        **endpoint("101", "from-internal", '"Christopher Miller" <101>'),
        **endpoint("sipgate", "from-pstn", "<unknown>"),
    }
    pbx.denied |= {"pjsipshowendpoints", "pjsipshowendpoint", "pjsipshowregistrationsoutbound"}


def endpoint(name: str, context: str, caller_id: str, outbound_auth: str = "") -> dict[str, str]:
    """Return what Getvar says of a PJSIP endpoint."""
    return {
        f"PJSIP_ENDPOINT({name},context)": context,
        f"PJSIP_ENDPOINT({name},callerid)": caller_id,
        f"PJSIP_ENDPOINT({name},outbound_auth)": outbound_auth,
    }


def member(queue: str, name: str, interface: str, state_interface: str = "") -> Headers:
    """Return what QueueStatus says of a member."""
    state_interface = state_interface or interface
    return {
        "Event": "QueueMember",
        "Queue": queue,
        "Name": name,
        "Location": interface,
        "StateInterface": state_interface,
    }


@pytest.fixture
async def pbx() -> AsyncIterator[PbxSandbox]:
    async with PbxSandbox(secret=SECRET) as sandbox:
        furnish(sandbox)
        yield sandbox


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "ami2zammad.toml"
