"""What may come near an action, and which numbers are never held."""

import pytest
from hypothesis import given, strategies as st

from ami2zammad.control.numbers import EmergencyNumbers, safe_number


@pytest.mark.parametrize("number", ["1", "+492214710334", "496990009111", "0" * 32, "+" + "1" * 31])
def test_a_number_is_let_through(number: str) -> None:
    assert safe_number(number) == number


@pytest.mark.parametrize(
    "number",
    [
        "",
        "+",
        "++49",
        "49 221",
        "49-221",
        "49\r\nAction: Hangup",
        "49\n",
        "anonymous",
        "1" * 33,
        "+" + "1" * 32,
        "٤٩",
        "1,2",
    ],
)
def test_anything_else_is_not(number: str) -> None:
    assert safe_number(number) == ""


@given(st.text(max_size=40))
def test_what_is_let_through_can_end_no_header(text: str) -> None:
    number = safe_number(text)
    assert number in {"", text}
    assert set(number) <= set("+0123456789")


@pytest.mark.parametrize(
    ("country", "number"),
    [
        ("DE", "112"),
        ("DE", "110"),
        ("AT", "144"),
        ("CH", "117"),
        ("US", "911"),
        ("GB", "999"),
        ("AU", "000"),
        ("FR", "15"),
    ],
)
def test_the_countrys_own_emergency_numbers_are_known(country: str, number: str) -> None:
    assert number in EmergencyNumbers(country)
    assert "0" + number in EmergencyNumbers(country, (), "0")


def test_configured_numbers_with_and_without_the_line_prefix() -> None:
    emergency = EmergencyNumbers("DE", frozenset({"19222"}), "0")
    assert "19222" in emergency
    assert "019222" in emergency
    assert "492214710334" not in emergency
    assert "0492214710334" not in emergency
    assert "1120" not in emergency
    assert "100" not in emergency
    assert 112 not in emergency
