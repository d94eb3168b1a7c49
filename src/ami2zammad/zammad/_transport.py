"""One request over HTTP, its outcome told without exceptions: those of aiohttp contain the URL with the token."""

from __future__ import annotations

import errno
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import aiohttp

from ami2zammad import __version__
from ami2zammad.zammad.endpoint import ZammadEndpoint
from ami2zammad.zammad.payloads import Fields, encode
from ami2zammad.zammad.replies import Answered, Outcome, Trouble, Unanswered

REPLY_LIMIT = 64 * 1024
"""Bytes read of a reply. Zammad's are shorter than one packet."""
CONNECT_TIMEOUT = 5.0
"""Seconds for TCP and TLS together, unless the whole request has less."""
IDLE_TIMEOUT = 10.0
"""Seconds that an idle connection is kept: less than web servers do, since a POST into a connection that the
server is just closing fails."""


class Transport:
    """The HTTP session with one endpoint, to be made inside a running loop and closed.

    `tls` comes from `tls_context`; `connections` bounds how many are open at a time; `now` gives seconds since the
    epoch, for `Retry-After` with a date.
    """

    def __init__(
        self,
        endpoint: ZammadEndpoint,
        tls: ssl.SSLContext | bool,  # noqa: FBT001 - aiohttp's own words for it
        *,
        connections: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._now = now
        total = endpoint.timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls, keepalive_timeout=IDLE_TIMEOUT),
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=min(total, CONNECT_TIMEOUT)),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A compressed reply could unpack to any size.
            auto_decompress=False,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"ami2zammad/{__version__}",
            },
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, fields: Fields) -> Outcome:
        """Send `fields` once and return what came of it. Raises nothing but `RuntimeError` after `close`."""
        body, content_type = encode(fields, self._endpoint.format)
        # The exception must be gone when anything is raised or logged later: it would stay as the context.
        try:
            async with self._session.post(
                self._endpoint.url,
                data=body,
                headers={"Content-Type": content_type},
                allow_redirects=False,
            ) as response:
                text = await _read(response)
                return Answered(
                    status=response.status,
                    content_type=response.headers.get("Content-Type", ""),
                    text=text,
                    location=response.headers.get("Location", ""),
                    retry_after=self._retry_after(response.headers.get("Retry-After", "")),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _unanswered(error)

    def _retry_after(self, value: str) -> float | None:
        """Return the header as seconds from now (never negative), or None if it says nothing."""
        value = value.strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self._now())
        except (ValueError, OverflowError, TypeError):
            return None


async def _read(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    while len(body) < REPLY_LIMIT:
        chunk = await response.content.read(REPLY_LIMIT - len(body))
        if not chunk:
            break
        body += chunk
    else:
        # The rest is not wanted, and this connection with it.
        response.close()
    return body.decode("utf-8", "replace")


def _unanswered(error: Exception) -> Unanswered:  # noqa: C901, PLR0911 - a table
    """Return the kind of `error`, with words that cannot contain the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return _tls_trouble(error)
        case aiohttp.ClientConnectorDNSError():
            return Unanswered(Trouble.UNRESOLVED)
        case aiohttp.ConnectionTimeoutError():
            return Unanswered(Trouble.UNCONNECTED)
        case TimeoutError():
            return Unanswered(Trouble.SILENT)
        case aiohttp.ClientConnectorError():
            if isinstance(error.os_error, ssl.SSLError):
                return _tls_trouble(error)
            number = error.os_error.errno
            if number == errno.ECONNREFUSED:
                return Unanswered(Trouble.REFUSED)
            return Unanswered(Trouble.UNCONNECTED, errno.errorcode.get(number or 0, ""))
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return Unanswered(Trouble.LOST)
        case aiohttp.ClientResponseError():
            return Unanswered(Trouble.GIBBERISH)
        case ssl.SSLError():
            return Unanswered(Trouble.TLS, error.reason or "")
        case OSError():
            return Unanswered(Trouble.OTHER, errno.errorcode.get(error.errno or 0, ""))
        case _:
            return Unanswered(Trouble.OTHER, type(error).__name__)


def _tls_trouble(
    error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorError,
) -> Unanswered:
    cause: BaseException | None = (
        error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    )
    match cause:
        case ssl.SSLCertVerificationError():
            return Unanswered(Trouble.CERTIFICATE, cause.verify_message)
        case ssl.CertificateError():
            return Unanswered(Trouble.CERTIFICATE)
        case ssl.SSLError() if cause.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
            return Unanswered(Trouble.NOT_TLS)
        case ssl.SSLError():
            return Unanswered(Trouble.TLS, cause.reason or "")
        case _:
            return Unanswered(Trouble.TLS)
