"""Times, numbers and foreign texts, as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ami2zammad.ops.words import duration, foreign, latency, short_number


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (86399, "23 h 59 min"),
        (4 * 86400 + 7 * 3600 + 59, "4 d 7 h"),
        (4000 * 86400, "4000 d"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.0354, "35 ms"), (0.9996, "1.0 s"), (1.29, "1.2 s"), (59.99, "59.9 s"), (61, "1 min 1 s")],
)
def test_latency(seconds: float, words: str) -> None:
    assert latency(seconds) == words


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("4917699999999", "4917699999•••"),
        ("+49 30/600-100", "+49 30/600-•••"),
        ("100", "100"),
        ("12345", "12345"),
        ("123456", "123•••"),
        ("anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_the_last_digits_of_a_number_are_hidden(number: str, shown: str) -> None:
    assert short_number(number) == shown


@given(st.text(max_size=300))
def test_a_foreign_text_stays_in_its_line(text: str) -> None:
    shown = foreign(text)
    assert len(shown) <= 120
    shown.encode()
    assert not set(shown) & set("\r\n\x00\x1b\x7f\x9b\u2028\u2029\u202e\u2066\u200f")


def test_a_family_stays_together() -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    assert foreign(family) == family
    assert foreign("x" * 121) == "x" * 119 + "…"
    assert foreign("a\ud800b\x1b[31m") == "a\ufffdb\ufffd[31m"
