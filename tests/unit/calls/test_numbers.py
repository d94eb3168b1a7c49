"""Numbers as Zammad wants them."""

import phonenumbers
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
        ("AT", "0043 664 1234567", "436641234567"),
        ("AU", "0412345678", "61412345678"),
        ("AU", "0011 49 17699999999", "4917699999999"),
        ("BE", "025551234", "3225551234"),
        ("BE", "25551234", "3225551234"),
        ("BR", "0 21 11 91234-5678", "5511912345678"),
        ("CA", "(416) 555-1234", "14165551234"),
        ("CN", "13812345678", "8613812345678"),
        ("CZ", "212345678", "420212345678"),
        ("DK", "32123456", "4532123456"),
        ("FI", "0912345678", "358912345678"),
        ("FR", "+33 (0)1 23 45 67 89", "33123456789"),
        ("HU", "06301234567", "36301234567"),
        ("IE", "012345678", "35312345678"),
        ("IN", "9876543210", "919876543210"),
        ("IT", "3331234567", "393331234567"),
        ("JP", "010 49 17699999999", "4917699999999"),
        ("JP", "09012345678", "819012345678"),
        ("LI", "2345678", "4232345678"),
        ("LU", "240891", "352240891"),
        ("MX", "5512345678", "525512345678"),
        ("NL", "0201234567", "31201234567"),
        ("NO", "22123456", "4722123456"),
        ("PL", "221234567", "48221234567"),
        ("PT", "212345678", "351212345678"),
        ("RU", "89161234567", "79161234567"),
        ("RU", "8104917699999999", "4917699999999"),
        ("SE", "0812345678", "46812345678"),
        ("SG", "61234567", "6561234567"),
        ("TR", "05321234567", "905321234567"),
        ("ZA", "0821234567", "27821234567"),
    ],
)
def test_a_number_becomes_e164_whatever_way_the_country_writes_it(country: str, written: str, expected: str) -> None:
    assert NumberPlan(country=country).party(written) == expected


@pytest.mark.parametrize("written", ["100", "*97", "112", "110", "4930600", "60010"])
def test_extensions_feature_codes_and_short_numbers_stay_as_they_are(written: str) -> None:
    assert GERMANY.party(written) == written


@pytest.mark.parametrize(
    ("country", "written"),
    [
        ("DE", "1641"),  # extensions, which look like area codes to those who do not know better
        ("DE", "89618"),
        ("LU", "3201"),
        ("FI", "27611"),
        ("DE", "600100"),  # local numbers: nobody says which town
        ("DE", "7654321"),
        ("AT", "5123456"),
        ("SE", "8541208"),
        ("US", "5551234"),
        ("DE", "116117"),  # service numbers
        ("GB", "118500"),
        ("AU", "131114"),
        ("FR", "3949"),
        ("NO", "02800"),
        ("US", "*672125551234"),  # feature codes with a number behind them
        ("DE", "*31#017699999999"),
        ("DE", "*21*017699999999#"),
        ("DE", "017699999999#"),
    ],
)
def test_what_is_nobodys_number_is_not_turned_into_one(country: str, written: str) -> None:
    plan = NumberPlan(country=country)
    assert plan.party(written) == written
    assert not plan.is_known(written)


@pytest.mark.parametrize(
    ("country", "number"),
    [
        *(("DE", "112"), ("DE", "110"), ("AT", "144"), ("CH", "117"), ("FR", "15"), ("GB", "999"), ("US", "911")),
        *(("AU", "000"), ("NZ", "111"), ("JP", "119"), ("IN", "108"), ("BR", "190"), ("PL", "998"), ("RU", "01")),
    ],
)
def test_emergency_numbers_stay_as_they_are_with_and_without_a_line_prefix(country: str, number: str) -> None:
    for prefix in ("", "0", "9"):
        plan = NumberPlan(country=country, outbound_prefix=prefix)
        assert plan.party(number) == number
        assert plan.dialled(number) == number
        assert plan.dialled(prefix + number) == number


def test_a_number_that_the_library_does_not_know_yet_is_still_one_of_its_country() -> None:
    # Which ranges are given out changes with the library's version, so the test asks the library for one that is not.
    mobile = (f"05{operator}1234567" for operator in range(10))
    number = next(
        number for number in mobile if not phonenumbers.is_valid_number(phonenumbers.parse(number, region="IL"))
    )
    israel = NumberPlan(country="IL")
    assert israel.party(number) == "972" + number.removeprefix("0")
    # But nothing is concluded from it: it may as well be a number with a line prefix in front.
    assert not israel.is_known(number)


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
