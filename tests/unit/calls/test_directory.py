"""The directory of agents."""

from ami2zammad.calls.directory import Agent, Directory

EMMA = Agent("100", "Emma Taylor", "emma@example.com", "4930600100")


def test_an_agent_is_found_by_endpoint_or_by_caller_id() -> None:
    directory = Directory([EMMA])
    assert directory.agent_at("100", "", "") is EMMA
    assert directory.agent_at("0004f2aabbcc", "100", "Desk") is EMMA
    assert directory.extensions == {"100"}


def test_an_agent_without_a_name_is_called_what_the_pbx_calls_the_device() -> None:
    directory = Directory([Agent("100", answering_number="emma")])
    assert directory.agent_at("100", "100", "Emma T.") == Agent("100", "Emma T.", "emma", "")


def test_a_device_that_nobody_configured_still_has_a_name() -> None:
    assert Directory().agent_at("102", "102", "Zoë Müller") == Agent("102", "Zoë Müller")


def test_the_extension_of_an_endpoint_with_a_technical_name_is_its_caller_id() -> None:
    assert Directory().agent_at("0004f2aabbcc", "102", "Zoë") == Agent("102", "Zoë")
    assert Directory().agent_at("zoe", "", "") == Agent("zoe", "")
    assert Directory().agent_at("102", "4930600102", "") == Agent("102", "")
