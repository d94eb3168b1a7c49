"""A transport that is made when it is first needed: to load aiohttp takes about as long as to load all the rest.

What the settings get wrong is found before that, at the start.
"""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ami2zammad.zammad.endpoint import ZammadEndpoint
from ami2zammad.zammad.errors import BadEndpoint
from ami2zammad.zammad.payloads import Fields
from ami2zammad.zammad.replies import Outcome

if TYPE_CHECKING:
    from ami2zammad.zammad._transport import Transport


class LateTransport:
    """Requests to one endpoint; an async context manager.

    Raises `BadEndpoint` on entry if the CA file cannot be read. `connections` bounds how many are open at a time.
    """

    def __init__(self, endpoint: ZammadEndpoint, *, connections: int) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._tls: ssl.SSLContext | bool | None = None
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        self._tls = tls_context(self._endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tls = None
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.close()

    async def post(self, fields: Fields) -> Outcome:
        """Send `fields` once and return what came of it. Raises nothing but `RuntimeError` outside `async with`."""
        if self._transport is None:
            if self._tls is None:
                raise RuntimeError("the Zammad client is used outside its `async with`")
            from ami2zammad.zammad._transport import Transport  # noqa: PLC0415

            self._transport = Transport(self._endpoint, self._tls, connections=self._connections)
        return await self._transport.post(fields)


def tls_context(endpoint: ZammadEndpoint) -> ssl.SSLContext | bool:
    """Return what TLS needs. Raises `BadEndpoint`."""
    if endpoint.ca_file is None and endpoint.url.startswith("http:"):
        # To read the system's certificates takes as long as to load a library.
        return True
    problem = ""
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
    except ssl.SSLError:
        problem = "holds no certificate in PEM form"
        context = ssl.create_default_context()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        context = ssl.create_default_context()
    if problem:
        raise BadEndpoint(f"The file {endpoint.ca_file} {problem}: correct zammad.ca_file.")
    if not endpoint.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
