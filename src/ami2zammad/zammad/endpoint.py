"""Where Zammad is and how to talk to it; and how to speak of it without giving the token away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from yarl import URL

from ami2zammad.zammad.errors import BadEndpoint
from ami2zammad.zammad.payloads import Format

_MASK = "***"
_LONGEST_QUOTE = 300
"""Characters of a foreign text that one of our messages carries at the most."""


@dataclass(frozen=True, slots=True, repr=False)
class ZammadEndpoint:
    """Settings of the endpoint. The last part of the URL's path is the token; `repr` and `str` hide it.

    `url` is what Zammad shows under Admin > System > Integrations > CTI (generic). `timeout` is in
    seconds, from the beginning of a request to the end of its reply. `ca_file` (PEM) is trusted instead of the
    system's certificates. `queue_as_to` sends the queue's name as `to` of inbound calls.

    Raises `BadEndpoint` for a URL that cannot be one.
    """

    url: str
    format: Format = "json"
    timeout: float = 10.0
    ca_file: Path | None = None
    verify_tls: bool = True
    queue_as_to: bool = False

    def __post_init__(self) -> None:
        if _parsed(self.url) is None:
            # Nothing of the text is repeated: whatever it is, the token may be in it.
            raise BadEndpoint(
                "zammad.url is not a URL like https://zammad.example.com/api/v1/cti/<token>: copy it from Zammad, "
                "Admin > System > Integrations > CTI (generic)."
            )

    def __repr__(self) -> str:
        return (
            f"ZammadEndpoint(url={self.public_url!r}, format={self.format!r}, timeout={self.timeout!r}, "
            f"ca_file={str(self.ca_file) if self.ca_file else None!r}, verify_tls={self.verify_tls!r}, "
            f"queue_as_to={self.queue_as_to!r})"
        )

    @property
    def public_url(self) -> str:
        """The URL with `***` for the token, and without user name, password and query."""
        url = URL(self.url)
        parts = url.raw_path.rstrip("/").split("/")
        return f"{_origin(url)}{'/'.join([*parts[:-1], _MASK])}"

    def hide(self, text: str) -> str:
        """Return one printable line of a foreign `text`, shortened, with `***` wherever the secrets stood."""
        for secret in self._secrets():
            text = re.sub(re.escape(secret), _MASK, text, flags=re.IGNORECASE)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}..."

    def hide_location(self, location: str) -> str:
        """Return a redirect's target, relative ones resolved, without query and fragment, secrets hidden."""
        try:
            target = URL(self.url).join(URL(location))
            return self.hide(unquote(f"{_origin(target)}{target.raw_path}"))
        except ValueError:
            return "an address that cannot be read"

    def _secrets(self) -> list[str]:
        url = URL(self.url)
        raw = url.raw_path.rstrip("/").rpartition("/")[2]
        known = {raw, unquote(raw), quote(unquote(raw), safe="")}
        if url.password:
            known |= {url.password, url.raw_password or "", quote(url.password, safe="")}
        # The longest first: the shorter may be a part of it.
        return sorted((secret for secret in known if secret), key=len, reverse=True)


def _parsed(url: str) -> URL | None:
    try:
        parsed = URL(url)
        port = parsed.port
    except (ValueError, TypeError):
        return None
    usable = parsed.scheme in {"http", "https"} and parsed.host and port and parsed.raw_path.strip("/")
    return parsed if usable else None


def _origin(url: URL) -> str:
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    return f"{url.scheme}://{host}" if url.is_default_port() else f"{url.scheme}://{host}:{url.port}"
