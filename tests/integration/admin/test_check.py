"""`check` where names are not plain: what it finds must be what the bridge would see."""

from __future__ import annotations

from pathlib import Path

import pytest

from ami2zammad.admin.check import check_asterisk
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.settings import load_settings
from tests.integration.admin.conftest import SECRET, endpoint


async def findings(pbx: PbxSandbox, config: Path, trunks: str, *extensions: str) -> dict[str, bool]:
    """Return what is found about trunks and agents."""
    agents = "".join(f'[[agents]]\nextension = "{extension}"\n' for extension in extensions)
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        f'[asterisk]\nport = {pbx.port}\nusername = "ami2zammad"\nsecret = "{SECRET}"\ntrunks = {trunks}\n'
        f'[zammad]\nurl = "https://zammad.example.com/api/v1/cti/token"\n{agents}',
        encoding="utf-8",
    )
    found = await check_asterisk(load_settings(config, environ={}, secret_directories=[]))
    return {one.detail.partition(": ")[0]: one.ok for one in found if one.subject in {"trunk", "agent"}}


@pytest.mark.parametrize("name", ["trunk-1", "telekom-de", "provider-cafe"])
async def test_a_trunk_whose_name_ends_like_a_channels_suffix(name: str, pbx: PbxSandbox, config: Path) -> None:
    pbx.listings["devicestatelist"].append({"Event": "DeviceStateChange", "Device": f"PJSIP/{name}"})
    found = await findings(pbx, config, f'["PJSIP/{name}"]')
    assert found == {f"PJSIP/{name} is PJSIP/{name}": True}


async def test_an_extension_that_is_only_in_the_caller_id(pbx: PbxSandbox, config: Path) -> None:
    pbx.listings["devicestatelist"].append({"Event": "DeviceStateChange", "Device": "PJSIP/0004f2112233"})
    pbx.variables |= endpoint("0004f2112233", "from-internal", '"Zoë Müller" <102>')
    found = await findings(pbx, config, '["PJSIP/sipgate"]', "102", "103")
    assert found == {"PJSIP/sipgate is PJSIP/sipgate": True, "102 ": True, "103 ": False}


async def test_peers_that_have_no_state_yet(pbx: PbxSandbox, config: Path) -> None:
    pbx.variables |= {"SIPPEER(acme,dynamic)": "no", "SIPPEER(200,dynamic)": "yes"}
    found = await findings(pbx, config, '["SIP/acme", "SIP/other"]', "200", "201")
    assert found == {"SIP/acme is SIP/acme": True, "SIP/other matches no device": False, "200 ": True, "201 ": False}
