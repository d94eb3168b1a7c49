"""The account that `init` proposes for manager.conf."""

from __future__ import annotations

import ipaddress
import re
import string

import pytest

from ami2zammad.admin.account import Account, name_problem


def test_the_snippet_has_the_least_rights_and_lets_in_nobody_else() -> None:
    account = Account("ami2zammad", "s3cret", ("192.0.2.7", "2001:db8::7"))
    lines = account.snippet().splitlines()
    assert lines[1:9] == [
        "[ami2zammad]",
        "secret = s3cret",
        "deny = 0.0.0.0/0.0.0.0",
        "deny = ::/0",
        "permit = 192.0.2.7/32",
        "permit = 2001:db8::7/128",
        "read = call,agent",
        "write = call,originate",
    ]


def test_the_secret_can_be_hidden() -> None:
    account = Account("ami2zammad", "s3cret")
    assert "s3cret" not in account.snippet(hidden="<see elsewhere>")
    assert "s3cret" not in repr(account)


@pytest.mark.parametrize("username", ["ami2zammad", "a b", "zoë"])
def test_a_snippet_can_be_read_back(username: str) -> None:
    account = Account.new(username, "127.0.0.1", 5038)
    assert Account.parse(account.snippet()) == account


@pytest.mark.parametrize("text", ["", "[a]\n", "[a]\nsecret = x\n", "secret = x\npermit = 1.2.3.4/32\n"])
def test_something_else_is_no_account(text: str) -> None:
    assert Account.parse(text) is None


def test_a_fresh_secret_is_long_random_and_harmless_in_a_configuration() -> None:
    secrets = {Account.new("a", "127.0.0.1", 5038).secret for _ in range(50)}
    assert len(secrets) == 50
    assert {len(secret) for secret in secrets} == {32}
    assert set("".join(secrets)) <= set(string.ascii_letters + string.digits + "-_")


@pytest.mark.parametrize(("given", "taken"), [("s3cret", True), ("with space", False), ("semi;colon", False)])
def test_a_secret_that_is_known_is_taken_where_a_configuration_can_hold_it(given: str, *, taken: bool) -> None:
    assert (Account.new("a", "127.0.0.1", 5038, secret=given).secret == given) is taken


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "no-such-host.invalid", "\udcff", "a" * 70])
def test_on_this_machine_both_loopback_addresses_are_let_in(host: str) -> None:
    assert set(Account.new("a", host, 5038).addresses) >= {"127.0.0.1", "::1"}


def test_from_elsewhere_it_is_the_address_that_asterisk_sees() -> None:
    # 192.0.2.0/24 is for documentation: nothing is sent. A machine without any route falls back on loopback.
    for address in Account.new("a", "192.0.2.1", 5038).addresses:
        assert str(ipaddress.ip_address(address)) == address


@pytest.mark.parametrize("name", ["ami2zammad", "a.b-c_d@e", "Zoë"])
def test_names_that_a_section_can_have(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize("name", ["a]", "[a", "a;b", "a(!)", "a#b", "a\nb"])
def test_names_that_would_break_the_section(name: str) -> None:
    assert re.match("must not contain", name_problem(name))
