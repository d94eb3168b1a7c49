"""Numbers as Zammad wants them."""

import pytest
from hypothesis import given, strategies as st

from ami2zammad.calls.numbers import NumberPlan, is_diallable

GERMANY = NumberPlan(country="DE", outbound_prefix="0", extensions=frozenset({"100", "4930600"}))


@pytest.mark.parametrize(
    ("country", "written", "expected"),
    [
        ("DE", "4917699999999", "4917699999999"),
        ("DE", "+4917699999999", "4917699999999"),
        ("DE", "004917699999999", "4917699999999"),
        ("DE", "017699999999", "4917699999999"),
        ("DE", "0176 / 999-999 99", "4917699999999"),
        ("DE", "030600100", "4930600100"),
        ("DE", "4930600100", "4930600100"),
        ("DE", "492214710334", "492214710334"),
        ("AT", "06641234567", "436641234567"),
        ("AT", "4917699999999", "4917699999999"),
        ("CH", "0443643535", "41443643535"),
        ("US", "2125551234", "12125551234"),
        ("US", "12125551234", "12125551234"),
        ("US", "4917699999999", "4917699999999"),
        ("US", "0114917699999999", "4917699999999"),
        ("ES", "912345678", "34912345678"),
        ("IT", "0612345678", "390612345678"),
        ("GB", "02079460000", "442079460000"),
    ],
)
def test_a_number_becomes_e164_whatever_way_the_country_writes_it(country: str, written: str, expected: str) -> None:
    assert NumberPlan(country=country).party(written) == expected


@pytest.mark.parametrize("written", ["100", "*97", "112", "110", "4930600", "60010"])
def test_extensions_feature_codes_and_short_numbers_stay_as_they_are(written: str) -> None:
    assert GERMANY.party(written) == written


@pytest.mark.parametrize("written", ["", "<unknown>", "anonymous", "Anonymous", "unavailable", "Restricted", " "])
def test_a_withheld_number_is_anonymous(written: str) -> None:
    assert GERMANY.party(written) == "anonymous"


@pytest.mark.parametrize(
    ("dialled", "expected"),
    [
        ("0492214710334", "492214710334"),
        ("002214710334", "492214710334"),
        ("000492214710334", "492214710334"),
        ("492214710334", "492214710334"),
        ("0", "0"),
        ("100", "100"),
    ],
)
def test_the_line_prefix_is_not_part_of_a_dialled_number(dialled: str, expected: str) -> None:
    assert GERMANY.dialled(dialled) == expected


def test_what_is_no_number_is_kept_but_short() -> None:
    assert GERMANY.party("sip:bob@example.com") == "sip:bob@example.com"
    assert len(GERMANY.party("x" * 1000)) == 64


@pytest.mark.parametrize(("text", "diallable"), [("s", False), ("h", False), ("", False), ("*8", True), ("+49", True)])
def test_what_can_be_dialled(text: str, diallable: bool) -> None:  # noqa: FBT001
    assert is_diallable(text) is diallable


@given(st.text(max_size=80), st.sampled_from(["DE", "US", "IT", "GB", "FR"]))
def test_no_input_breaks_it_and_the_result_is_stable(text: str, country: str) -> None:
    plan = NumberPlan(country=country)
    number = plan.party(text)
    assert number
    assert len(number) <= 64


@given(st.integers(min_value=10_000_000, max_value=999_999_999))
def test_two_ways_to_write_a_german_number_are_one(subscriber: int) -> None:
    plan = NumberPlan(country="DE")
    assert plan.party(f"+49{subscriber}") == plan.party(f"0049{subscriber}")
