"""Everything that is shown is escaped."""

from __future__ import annotations

import re

from hypothesis import given, strategies as st

from ami2zammad.ops.html import Frame, Markup, element, foreign_text, joined, table
from ami2zammad.ops.page import status_body, status_frame
from ami2zammad.ops.report import Reporter
from tests.unit.ops.samples import HOSTILE, SCRIPT, Bridge, busy_activity


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", {"title": '"><b>'}, "<i>", element("br"), None, Markup("<u>")) == (
        '<p title="&quot;&gt;&lt;b&gt;">&lt;i&gt;<br><u></p>'
    )
    assert joined(["a&b", None]) == "a&amp;b"
    assert foreign_text("<") == "<bdi>&lt;</bdi>"


@given(st.text(), st.text())
def test_no_text_gets_out_of_its_place(text: str, attribute: str) -> None:
    made = element("p", {"title": attribute or "x"}, text)
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', made, flags=re.DOTALL)


def test_each_cell_says_its_heading() -> None:
    made = table("Calls", ["From", "To"], [["1", None]])
    assert '<td role="cell" data-label="From">1</td><td role="cell" data-label="To"></td>' in made


def test_the_page_has_nothing_of_others_in_it_but_text() -> None:
    bridge = Bridge(HOSTILE)
    reporter = Reporter(bridge.look, busy_activity(bridge), wall=bridge.wall, clean=str)
    document = status_frame().document(status_body(reporter.report()))
    assert document.count("<script>") == 1
    assert SCRIPT not in document
    assert "<img" not in document
    assert "<b>pbx" not in document
    # Nothing is fetched from anywhere, and nothing is styled or run but by the two blocks that the policy knows.
    assert not re.search(r'(?:src|href)="(?!data:|status\.json"|metrics")', document)
    assert not re.search(r"<[^>]* (?:style|on\w+)=", document)


def test_the_policy_names_exactly_what_stands_in_the_page() -> None:
    frame = Frame("t", "p { color: red }", "1 < 2", 5)
    policy = frame.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # `printf '%s' '1 < 2' | openssl dgst -sha256 -binary | base64`
    assert "script-src 'sha256-T8Xibs7zV8KTQdRXjpKJTlizX17SudRlddrZKaeFg9E='" in policy
    assert "<style>p { color: red }</style>" in frame.document(Markup(""))
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in frame.document(Markup(""))
