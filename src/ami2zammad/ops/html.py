"""HTML out of values: everything is escaped, unless `element` itself has made it."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

_VOID: Final = frozenset({"meta", "link", "br"})
_LOGO: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Crect width='32' height='32' rx='7' fill='%230b5cad'/%3E"
    "%3Cpath d='M5 22V15a11 11 0 0 1 22 0v7M5 18h22M11 18v-6M16 18V9M21 18v-6' fill='none' stroke='%23fff'"
    " stroke-width='2.6' stroke-linecap='round'/%3E%3C/svg%3E"
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | None
"""What stands in an element: text, `Markup`, or None, which is nothing."""


def element(name: str, attributes: Mapping[str, str] | None = None, *content: Content) -> Markup:
    """Return an element. An attribute without a value is written without one."""
    written = "".join(
        f' {key}="{html.escape(value)}"' if value else f" {key}" for key, value in (attributes or {}).items()
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """Return several texts and elements, one behind the other."""
    return Markup("".join(_escaped(one) for one in content))


def _escaped(content: Content) -> str:
    if content is None:
        return ""
    return content if isinstance(content, Markup) else html.escape(content)


def foreign_text(text: str) -> Markup:
    """Return a text of others, which may be written from right to left, so that it moves nothing beside it."""
    return element("bdi", None, text)


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[Content]], *, lean: bool = False) -> Markup:
    """Return a table. On a telephone its rows become cards, in which each cell says its heading, unless it is `lean`.

    The roles are those that tables have anyway; a browser forgets them where a table is not displayed as one.
    """
    head = [element("th", {"role": "columnheader", "scope": "col"}, heading) for heading in headings]
    body = []
    for row in rows:
        cells = zip(headings, row, strict=True)
        body.append(
            element(
                "tr",
                {"role": "row"},
                *(element("td", {"role": "cell", "data-label": heading}, cell) for heading, cell in cells),
            )
        )
    return element(
        "table",
        {"role": "table", "class": "lean" if lean else "cards-on-phones"},
        element("caption", {"class": "unseen"}, caption),
        element("thead", {"role": "rowgroup"}, element("tr", {"role": "row"}, *head)),
        element("tbody", {"role": "rowgroup"}, *body),
    )


def bundled(package: str, *names: str) -> str:
    """Return the text of files that belong to `package`, one behind the other."""
    folder = resources.files(package) / "web"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


@dataclass(frozen=True, slots=True)
class Frame:
    """What is the same in each answer of one page. Style and script stand in the page itself, nothing is fetched.

    `refresh` is in seconds, for browsers without scripts.
    """

    title: str
    style: str
    script: str
    refresh: int

    def document(self, body: Markup) -> str:
        """Return the whole page."""
        reload = {"http-equiv": "refresh", "content": str(self.refresh)}
        head = element(
            "head",
            None,
            element("meta", {"charset": "utf-8"}),
            element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            element("meta", {"name": "color-scheme", "content": "light dark"}),
            element("title", None, self.title),
            element("link", {"rel": "icon", "href": _LOGO}),
            element("noscript", None, element("meta", reload)),
            element("style", None, Markup(self.style)),
        )
        offline = element("p", {"id": "offline", "role": "alert", "hidden": ""})
        page = element("div", {"id": "page"}, body)
        script = element("script", None, Markup(self.script))
        return (
            f"<!DOCTYPE html>\n{element('html', {'lang': 'en'}, head, element('body', None, offline, page, script))}\n"
        )

    @property
    def headers(self) -> dict[str, str]:
        """What tells the browser to run nothing but our own script, and to keep nothing."""
        policy = (
            f"default-src 'none'; script-src {_digest(self.script)}; style-src {_digest(self.style)}; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return {"Content-Security-Policy": policy, **PRIVATE}


PRIVATE: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers for whatever others should neither keep nor show."""


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
