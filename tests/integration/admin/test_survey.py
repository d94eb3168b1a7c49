"""What the survey finds, with much and with little to go by."""

from __future__ import annotations

import pytest

from ami2zammad.asterisk.connection import AmiEndpoint, AmiSession
from ami2zammad.asterisk.errors import ConnectionLost
from ami2zammad.asterisk.survey import Endpoint, Gap, QueueMember, Survey, caller_numbers, existing_peers, survey
from ami2zammad.sandbox.pbx import Headers, PbxSandbox
from tests.integration.admin.conftest import SECRET, endpoint


async def open_session(pbx: PbxSandbox) -> AmiSession:
    return await AmiSession.open(AmiEndpoint("127.0.0.1", pbx.port, "ami2zammad", SECRET), lambda _: None)


async def look(pbx: PbxSandbox, *contexts: str) -> Survey:
    session = await open_session(pbx)
    try:
        return await survey(session, contexts)
    finally:
        await session.close()


async def test_what_an_account_of_few_rights_sees(pbx: PbxSandbox) -> None:
    pbx.variables["DIALPLAN_EXISTS(from-zaptel)"] = "1"
    pbx.variables["DIALPLAN_EXISTS(incoming)"] = "0"
    found = await look(pbx, "from-zaptel", "incoming")
    assert found == Survey(
        endpoints=(
            Endpoint("PJSIP", "100", "from-internal", "Emma Taylor", "100"),
            Endpoint("PJSIP", "101", "from-internal", "Christopher Miller", "101"),
            Endpoint("PJSIP", "sipgate", "from-pstn"),
        ),
        queues=("support",),
        members=(QueueMember("support", "Emma Taylor", "PJSIP/100", "PJSIP/100"),),
        contexts=frozenset({"from-zaptel"}),
        gaps=(
            Gap("where Asterisk registers", "reporting"),
            Gap("which endpoints Asterisk recognises by their address", "system"),
        ),
    )


async def test_what_an_account_of_all_rights_sees(pbx: PbxSandbox) -> None:
    pbx.denied.clear()
    pbx.listings |= {
        "pjsipshowendpoints": [{"Event": "EndpointList", "ObjectName": name} for name in ("100", "berlin", "a,b")],
        "pjsipshowregistrationsoutbound": [
            {"Event": "OutboundRegistrationDetail", "ObjectName": "reg", "Endpoint": "sipgate"},
            {"Event": "AuthDetail", "ObjectName": "sipgate", "Password": "s3cret-of-the-provider"},
            {"Event": "OutboundRegistrationDetail", "ObjectName": "berlin", "Endpoint": ""},
        ],
        "pjsipshowendpoint": [{"Event": "EndpointDetail"}, {"Event": "IdentifyDetail"}],
        "sippeers": [
            {"Event": "PeerEntry", "ObjectName": "acme", "Dynamic": "no", "IPaddress": "127.0.0.9"},
            {"Event": "PeerEntry", "ObjectName": "200", "Dynamic": "yes", "IPaddress": "-none-"},
        ],
        "iaxpeerlist": [{"Event": "PeerEntry", "Channeltype": "IAX", "ObjectName": "office", "Dynamic": "no"}],
    }
    pbx.variables |= endpoint("berlin", "default", "<unknown>", "berlin-auth")
    pbx.variables |= {
        "SIPPEER(200,context)": "from-internal",
        "SIPPEER(200,callerid_name)": "Sip Sally",
        "SIPPEER(200,callerid_num)": "200",
        "SIPPEER(200,dynamic)": "yes",
        "SIPPEER(acme,context)": "incoming",
        "IAXPEER(office,context)": "from-trunk",
    }
    found = await look(pbx)
    assert found.gaps == ()
    assert found.endpoints == (
        Endpoint("IAX2", "office", "from-trunk", fixed_address=True),
        Endpoint("PJSIP", "100", "from-internal", "Emma Taylor", "100"),
        Endpoint("PJSIP", "101", "from-internal", "Christopher Miller", "101"),
        # A name that no function can be asked for is not asked for.
        Endpoint("PJSIP", "a,b", fixed_address=True),
        Endpoint("PJSIP", "berlin", "default", registers=True, has_credentials=True),
        Endpoint("PJSIP", "sipgate", "from-pstn", registers=True),
        Endpoint("SIP", "200", "from-internal", "Sip Sally", "200"),
        Endpoint("SIP", "acme", "incoming", fixed_address=True),
    )
    assert "s3cret-of-the-provider" not in repr(found)


async def test_what_an_account_that_may_nothing_sees(pbx: PbxSandbox) -> None:
    pbx.denied |= {"devicestatelist", "getvar", "status", "sippeers", "iaxpeerlist"}
    found = await look(pbx, "from-zaptel")
    # Members of queues everybody may see.
    assert [one.channel for one in found.endpoints] == ["PJSIP/100"]
    assert [gap.right for gap in found.gaps] == ["call", "reporting", "reporting", "reporting"]
    assert found.gaps[0].what == "the devices"


async def test_live_channels_have_endpoints(pbx: PbxSandbox) -> None:
    pbx.channels = {
        "1.1": {"Channel": "SIP/acme-1f-0000001a", "Uniqueid": "1.1", "Linkedid": "1.1", "ChannelState": "6"},
        "1.2": {
            "Channel": "Local/100@from-queue-00000001;1",
            "Uniqueid": "1.2",
            "Linkedid": "1.1",
            "ChannelState": "6",
        },
    }
    found = await look(pbx)
    assert [one.channel for one in found.endpoints] == ["PJSIP/100", "PJSIP/101", "PJSIP/sipgate", "SIP/acme-1f"]


async def test_names_out_of_mailboxes_and_the_database_of_freepbx(pbx: PbxSandbox) -> None:
    def get(headers: Headers) -> list[Headers]:
        if headers["Key"] != "100/cidname":
            return [{"Response": "Error", "Message": "Database entry not found"}]
        start = {"Response": "Success", "EventList": "start", "Message": "Result will follow"}
        return [start, {"Event": "DBGetResponse", "Val": "Emma Taylor"}, {"Event": "DBGetComplete"}]

    pbx.variables |= endpoint("100", "from-internal", '"device" <100>') | endpoint("101", "from-internal", "<101>")
    pbx.listings["voicemailuserslist"] = [
        {"Event": "VoicemailUserEntry", "VoiceMailbox": "101", "Fullname": "Christopher Miller"},
    ]
    pbx.answers["dbget"] = get
    assert [one.caller_name for one in (await look(pbx)).endpoints] == ["Emma Taylor", "Christopher Miller", ""]
    pbx.variables |= endpoint("101", "from-internal", '"device" <101>')
    pbx.listings.clear()
    pbx.listings["devicestatelist"] = [{"Event": "DeviceStateChange", "Device": "PJSIP/101"}]
    assert [one.caller_name for one in (await look(pbx)).endpoints] == [""]
    pbx.denied.add("dbget")
    assert Gap("names that are only in FreePBX's database", "reporting") in (await look(pbx)).gaps


async def test_a_list_that_is_too_long_is_a_gap(pbx: PbxSandbox) -> None:
    pbx.listings["sippeers"] = [{"Event": "PeerEntry", "ObjectName": str(number)} for number in range(50_100)]
    found = await look(pbx)
    assert any("SIP" in gap.what for gap in found.gaps)
    assert len(found.endpoints) == 3


async def test_many_endpoints_are_asked_about_a_few_at_a_time(pbx: PbxSandbox) -> None:
    pbx.listings["devicestatelist"] = [
        {"Event": "DeviceStateChange", "Device": f"PJSIP/{number}"} for number in range(1000, 3000)
    ]
    found = await look(pbx)
    assert len(found.endpoints) == 2001


async def test_a_connection_that_breaks_is_no_gap(pbx: PbxSandbox) -> None:
    def crash(_: Headers) -> list[Headers]:
        pbx.cut()
        return []

    pbx.answers["queuestatus"] = crash
    with pytest.raises(ConnectionLost):
        await look(pbx)


async def test_numbers_and_peers_by_name(pbx: PbxSandbox) -> None:
    pbx.variables |= endpoint("emma", "default", '"Emma" <100>') | {"SIPPEER(acme,dynamic)": "no"}
    session = await open_session(pbx)
    try:
        assert await caller_numbers(session, ["PJSIP/emma", "PJSIP/sipgate", "nonsense"]) == {"100"}
        assert await existing_peers(session, ["SIP/acme", "SIP/other", "SIP/a(b", "PJSIP/emma"]) == {"SIP/acme"}
    finally:
        await session.close()
