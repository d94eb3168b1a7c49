"""What is a trunk, who is an agent: layouts of PBXs as they are, and names that may be anything."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings, strategies as st

from ami2zammad.admin.proposal import Proposal, ProposedAgent, Role, channel_glob, clean, propose
from ami2zammad.admin.settings_file import render, write
from ami2zammad.asterisk.survey import Endpoint, QueueMember, Survey
from ami2zammad.calls.directory import Agent, Directory
from ami2zammad.calls.sides import Side, TrunkPatterns
from ami2zammad.settings import load_settings


def phone(number: str, name: str, context: str = "from-internal", technology: str = "PJSIP") -> Endpoint:
    return Endpoint(technology, number, context, name, number)


def roles(proposal: Proposal) -> dict[str, str]:
    return {one.endpoint.channel: one.role.value for one in proposal.judgements}


def test_a_plain_asterisk() -> None:
    proposal = propose(
        Survey(
            endpoints=(
                phone("100", "Emma Taylor"),
                phone("101", "Christopher Miller"),
                Endpoint("PJSIP", "trunk", "from-trunk"),
            ),
            queues=("support",),
            members=(QueueMember("support", "Emma Taylor", "PJSIP/100", "PJSIP/100"),),
        )
    )
    assert proposal.trunks == ("PJSIP/trunk",)
    assert proposal.agents == (
        ProposedAgent("100", "Emma Taylor", ("support",)),
        ProposedAgent("101", "Christopher Miller"),
    )
    assert proposal.contexts == ()
    assert all(one.sure for one in proposal.judgements)


def test_freepbx() -> None:
    # Trunks are called anything and come in by from-pstn; a queue reaches its members by the dialplan, and watches
    # hints; a user's second device (WebRTC) is 99 and the extension; Digium's phones have an endpoint that never calls.
    proposal = propose(
        Survey(
            endpoints=(
                phone("100", "Emma Taylor"),
                Endpoint("PJSIP", "99100", "from-internal", "Emma Taylor", "100"),
                phone("101", ""),
                Endpoint("PJSIP", "anonymous", "from-sip-external"),
                Endpoint("PJSIP", "dpma_endpoint", "dpma-invalid"),
                Endpoint("PJSIP", "sipgate", "from-pstn", registers=True, has_credentials=True),
                Endpoint("PJSIP", "Telekom-2", "from-pstn-e164-us"),
            ),
            queues=("600",),
            members=(
                QueueMember("600", "Emma Taylor", "Local/100@from-queue/n", "hint:100@ext-local"),
                QueueMember("600", "Christopher Miller", "Local/101@from-queue/n", "hint:101@ext-local"),
                QueueMember(
                    "600", "Outside Otto", "Local/4917612345678@from-queue/n", "Local/4917612345678@from-queue/n"
                ),
            ),
            contexts=frozenset({"from-sip-external", "from-dahdi", "from-zaptel"}),
        )
    )
    assert roles(proposal) == {
        "PJSIP/100": "phone",
        "PJSIP/99100": "phone",
        "PJSIP/101": "phone",
        "PJSIP/anonymous": "trunk",
        "PJSIP/sipgate": "trunk",
        "PJSIP/Telekom-2": "trunk",
    }
    assert proposal.trunks == ("PJSIP/anonymous", "PJSIP/sipgate", "PJSIP/Telekom-2")
    assert proposal.agents == (
        ProposedAgent("100", "Emma Taylor", ("600",)),
        ProposedAgent("101", "Christopher Miller", ("600",)),
    )
    assert proposal.contexts == ("from-dahdi", "from-sip-external", "from-zaptel")


@pytest.mark.parametrize(
    ("endpoint", "role", "reason"),
    [
        # An account number for a name, a context of one's own: what providers' guides propose.
        (Endpoint("PJSIP", "1234567", "novofon-in", has_credentials=True), Role.TRUNK, "outbound_auth"),
        (Endpoint("PJSIP", "1234567", "novofon-in", registers=True), Role.TRUNK, "registers there"),
        (Endpoint("PJSIP", "4930600100", "novofon-in", fixed_address=True), Role.TRUNK, "fixed address"),
        (Endpoint("SIP", "acme", "default", fixed_address=True), Role.TRUNK, "fixed address"),
        (Endpoint("IAX2", "office-trunk", "default"), Role.TRUNK, "name"),
        (Endpoint("PJSIP", "ITSP", "default"), Role.TRUNK, "name"),
        (Endpoint("PJSIP", "berlin", "incoming"), Role.TRUNK, "context incoming"),
        (Endpoint("PJSIP", "berlin", "from-did-direct"), Role.TRUNK, "context from-did-direct"),
        # The bridge goes by these contexts too, whatever the endpoint is called.
        (Endpoint("PJSIP", "100", "from-trunk", "Emma", "100"), Role.TRUNK, "context from-trunk"),
        (Endpoint("PJSIP", "100", "default"), Role.PHONE, "extension"),
        (Endpoint("PJSIP", "100", "default", "Emma", "100", has_credentials=True), Role.PHONE, "caller ID"),
        # One context for all: bad style, but people do it.
        (Endpoint("PJSIP", "100", "incoming", "Emma", "100"), Role.PHONE, "extension"),
        (Endpoint("PJSIP", "0004f2112233", "default", "Emma", "100"), Role.PHONE, 'caller ID "Emma" <100>'),
        (Endpoint("PJSIP", "emma", "default", "Emma", "+4930600100"), Role.PHONE, "caller ID"),
        (Endpoint("PJSIP", "emma", "default", "Emma", "", fixed_address=True), Role.TRUNK, "fixed address"),
        (Endpoint("SCCP", "SEP0011"), Role.UNKNOWN, "nothing is known"),
    ],
)
def test_signs(endpoint: Endpoint, role: Role, reason: str) -> None:
    (judgement,) = propose(Survey((endpoint,))).judgements
    assert judgement.role is role
    assert reason in judgement.reason


def test_a_member_of_a_queue_is_a_phone() -> None:
    member = QueueMember("support", "Emma", "PJSIP/emma")
    proposal = propose(Survey((Endpoint("PJSIP", "emma", "default"),), members=(member,)))
    assert roles(proposal) == {"PJSIP/emma": "phone"}
    assert proposal.agents == (ProposedAgent("emma", "Emma", ("support",)),)


def test_without_signs_the_context_decides_and_says_that_it_is_a_guess() -> None:
    proposal = propose(
        Survey(
            (
                phone("100", "Emma", "office"),
                Endpoint("PJSIP", "kitchen", "office"),
                Endpoint("PJSIP", "berlin", "berlin-in"),
            )
        )
    )
    assert roles(proposal) == {"PJSIP/100": "phone", "PJSIP/kitchen": "phone", "PJSIP/berlin": "trunk"}
    assert [one.sure for one in proposal.judgements] == [True, False, False]
    assert [agent.extension for agent in proposal.agents] == ["100", "kitchen"]


def test_a_context_that_phones_have_is_not_proposed_for_trunks() -> None:
    endpoints = (phone("100", "Emma", "incoming"),)
    assert propose(Survey(endpoints, contexts=frozenset({"incoming", "inbound"}))).contexts == ("inbound",)


def test_an_endpoint_with_the_name_of_a_device_has_its_extension_from_the_caller_id() -> None:
    proposal = propose(Survey((Endpoint("PJSIP", "0004f2112233", "default", "Emma", "100"),)))
    assert proposal.agents == (ProposedAgent("100", "Emma"),)


def test_names_that_are_none() -> None:
    members = (
        QueueMember("a", "PJSIP/100", "PJSIP/100"),
        QueueMember("b", "Emma / Sales", "PJSIP/100"),
        QueueMember("c", "4930", "PJSIP/4930600100@trunk"),
    )
    proposal = propose(Survey((Endpoint("PJSIP", "100", "office", "100", "100"),), members=members))
    assert proposal.agents == (ProposedAgent("100", "Emma / Sales", ("a", "b")),)


def test_members_whose_phones_are_not_known_are_agents_too() -> None:
    # As with chan_sip's peers and an account of few rights.
    members = (QueueMember("600", "Emma", "Local/100@from-queue/n", "hint:100@ext-local"),)
    assert propose(Survey((), members=members)).agents == (ProposedAgent("100", "Emma", ("600",)),)


def test_a_member_behind_the_dialplan_is_the_phone_that_the_queue_watches() -> None:
    members = (QueueMember("support", "Emma", "Local/800@from-internal/n", "PJSIP/100"),)
    proposal = propose(Survey((phone("100", ""),), members=members))
    assert proposal.agents == (ProposedAgent("100", "Emma", ("support",)),)


@pytest.mark.parametrize("channel", ["PJSIP/[x]*?", "SIP/a-1f", "IAX2/-0", "PJSIP/a\nb", "PJSIP/]["])
def test_a_glob_matches_its_channel_and_no_other(channel: str) -> None:
    patterns = TrunkPatterns([channel_glob(channel)], ())
    assert patterns.side_of(f"{channel}-0000001a", "") is Side.OUTSIDE
    assert patterns.side_of(f"{channel}x-0000001a", "") is Side.INSIDE
    assert patterns.side_of(f"PJSIP/other{channel}-0000001a", "") is Side.INSIDE


texts = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", '"""', "'''", "\x1b[31m", "\x7f", "Zoë Müller", "#", "$\n", "株"]
)


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    names = draw(st.lists(texts.filter(bool), unique=True, max_size=5))
    endpoints = tuple(
        Endpoint(
            draw(st.sampled_from(["PJSIP", "SIP"])),
            name,
            draw(texts),
            draw(texts),
            draw(texts | st.sampled_from(["100", "101"])),
            registers=draw(st.booleans()),
        )
        for name in names
    )
    interfaces = [endpoint.channel for endpoint in endpoints] + ["Local/100@from-queue/n", "", "hint:101@ext-local"]
    members = tuple(
        QueueMember(draw(texts), draw(texts), draw(st.sampled_from(interfaces)), draw(st.sampled_from(interfaces)))
        for _ in range(draw(st.integers(0, 4)))
    )
    return Survey(endpoints, members=members)


@settings(deadline=None)  # each file is written down to the disk
@given(surveys())
def test_whatever_a_pbx_calls_its_things_the_file_says_the_same(survey: Survey) -> None:
    proposal = propose(survey)
    values = {
        "asterisk": {"username": "zammad", "secret": 's"e\\c#ret', "trunks": list(proposal.trunks)},
        "zammad": {"url": "https://zammad.example.com/api/v1/cti/token"},
        "agents": [{"extension": agent.extension, "name": agent.name} for agent in proposal.agents],
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ami2zammad.toml"
        write(file, render(values))
        loaded = load_settings(file, environ={}, secret_directories=[])
    assert loaded.asterisk.trunks == proposal.trunks
    assert [(agent.extension, agent.name) for agent in loaded.agents] == [
        (agent.extension, agent.name) for agent in proposal.agents
    ]
    # And it means the same: trunks are outside, a phone's agent is found by its channel.
    sides = TrunkPatterns(loaded.asterisk.trunks, ())
    directory = Directory(Agent(agent.extension, agent.name) for agent in loaded.agents)
    for judgement in proposal.judgements:
        endpoint = judgement.endpoint
        if judgement.role is Role.TRUNK:
            assert sides.side_of(f"{endpoint.channel}-0000001a", "") is Side.OUTSIDE
        elif judgement.role is Role.PHONE and clean(endpoint.name) == endpoint.name:
            agent = directory.agent_at(endpoint.name, endpoint.caller_number, endpoint.caller_name)
            assert agent.extension in {endpoint.name, endpoint.caller_number}
