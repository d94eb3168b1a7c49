"""`dial`: click to dial from a terminal or a `tel:` handler; asks the running bridge."""

from __future__ import annotations

import json

import aiohttp

from ami2zammad.settings import Settings

# The bridge asks Zammad first; the agent's phone rings when it answers.
_MARGIN = 5.0


class DialFailedError(Exception):
    """The bridge did not place the call; the text says why, and what to change."""


async def dial(settings: Settings, extension: str, number: str) -> str:
    """Let the running bridge call `extension` and then `number`; return the callId. Raises `DialFailedError`."""
    listen, token = settings.ops.listen, settings.ops.token
    if not listen or token is None:
        raise DialFailedError("set ops.listen and ops.token, and restart the bridge: dial asks it over HTTP")
    timeout = aiohttp.ClientTimeout(total=settings.control.decision_timeout + _MARGIN)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                f"http://{listen}/dial",
                json={"extension": extension, "number": number},
                headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            ) as response,
        ):
            body = json.loads(await response.content.read(4096))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        # Not chained: what aiohttp says may show the request's headers.
        raise DialFailedError(f"no bridge answers at ops.listen = {listen}; is it running?") from None
    if "call_id" not in body:
        raise DialFailedError(str(body.get("error", f"the bridge answered {response.status}")))
    return str(body["call_id"])
