"""The token is known to the request and to nobody else."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from ami2zammad.zammad import BadEndpoint, ZammadEndpoint
from tests.unit.zammad.samples import TOKEN, URL


@pytest.mark.parametrize(
    ("url", "public"),
    [
        (URL, "https://zammad.example.com/api/v1/cti/***"),
        (URL + "/", "https://zammad.example.com/api/v1/cti/***"),
        (f"{URL}?key={TOKEN}", "https://zammad.example.com/api/v1/cti/***"),
        (f"http://[::1]:3000/zammad/api/v1/cti/{TOKEN}", "http://[::1]:3000/zammad/api/v1/cti/***"),
        (f"https://joe:{TOKEN}@zammad.example.com/api/v1/cti/x", "https://zammad.example.com/api/v1/cti/***"),
    ],
)
def test_the_token_is_shown_by_no_text_of_the_endpoint(url: str, public: str) -> None:
    endpoint = ZammadEndpoint(url, ca_file=Path("ca.pem"))
    assert endpoint.public_url == public
    assert TOKEN not in repr(endpoint) + str(endpoint) + f"{endpoint}"
    assert public in repr(endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "",
        TOKEN,
        f"zammad.example.com/{TOKEN}",
        f"ftp://z/{TOKEN}",
        "https://zammad.example.com/",
        f"http://z:x/{TOKEN}",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(BadEndpoint, match=r"zammad\.url is not a URL like") as caught:
        ZammadEndpoint(url)
    text = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in text.replace("test_what_is_no_url", "")
    assert caught.value.__context__ is None


def test_foreign_texts_lose_the_token_and_line_breaks_and_are_shortened() -> None:
    endpoint = ZammadEndpoint(URL)
    assert endpoint.hide(f"No route\r\nfor /cti/{TOKEN.lower()}\x1b[0m") == "No route for /cti/*** [0m"
    assert TOKEN not in endpoint.hide("x" * 290 + TOKEN)
    assert TOKEN[:5] not in endpoint.hide("x" * 290 + TOKEN)
    assert len(endpoint.hide("x" * 9000)) < 310


def test_a_token_that_needs_escaping_is_hidden_in_every_form() -> None:
    endpoint = ZammadEndpoint("https://zammad.example.com/api/v1/cti/a%20very%2Fodd+t%C3%B6ken")
    for form in ("a%20very%2Fodd+t%C3%B6ken", "a very/odd+töken", "a%20very%2Fodd%2Bt%C3%B6ken"):
        assert endpoint.hide(f"<{form}>") == "<***>"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        (URL.replace("example.com", "example.org"), "https://zammad.example.org/api/v1/cti/***"),
        (f"/login?next=/api/v1/cti/{TOKEN}", "https://zammad.example.com/login"),
        (f"http://zammad.example.com:8080/{TOKEN}#{TOKEN}", "http://zammad.example.com:8080/***"),
        ("http://[", "an address that cannot be read"),
    ],
)
def test_targets_of_redirects(location: str, shown: str) -> None:
    assert ZammadEndpoint(URL).hide_location(location) == shown
