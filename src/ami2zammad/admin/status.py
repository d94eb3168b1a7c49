"""`status`: asks the running bridge how it is, as `dial` asks it to dial."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from ami2zammad.settings import Settings

_TIMEOUT: Final = 5.0
_LARGEST_BODY: Final = 4 * 1024 * 1024
_PARTS: Final = {"bridge": "Bridge", "asterisk": "Asterisk", "zammad": "Zammad", "outbox": "Outbox"}

Report = dict[str, Any]
"""What /status.json says (docs/operations.md)."""


class NoStatusError(Exception):
    """The bridge does not say how it is; the text says why, and what to change."""


def check(settings: Settings) -> list[str]:
    """Return what keeps the bridge from doing its work, in sentences; nothing: it is fine.

    Raises `NoStatusError`.
    """
    return [sentence(fault) for fault in _ask(settings, "/readyz").get("faults", ())]


def report_of(settings: Settings) -> Report:
    """Return how the running bridge is. Raises `NoStatusError`."""
    report = _ask(settings, "/status.json")
    if "ready" not in report or "asterisk" not in report:
        raise NoStatusError(_something_else(settings.ops.listen))
    return report


def _ask(settings: Settings, path: str) -> Report:
    """Return what the running bridge answers. Raises `NoStatusError`."""
    listen, token = settings.ops.listen, settings.ops.token
    if not listen:
        raise NoStatusError(
            'set ops.listen, such as "127.0.0.1:9469", and restart the bridge: status asks it over HTTP'
        )
    host, _, port = listen.rpartition(":")
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = json.loads(response.read(_LARGEST_BODY))
    except (OSError, http.client.HTTPException):
        raise NoStatusError(f"no bridge answers at ops.listen = {listen}; is it running?") from None
    except ValueError:
        raise NoStatusError(_something_else(listen)) from None
    finally:
        connection.close()
    if response.status not in {200, 503} or not isinstance(body, dict):
        told = body.get("error") if isinstance(body, dict) else None
        raise NoStatusError(f"the bridge answered {response.status}: {told}" if told else _something_else(listen))
    return body


def _something_else(listen: str) -> str:
    return f"something else than a bridge of this version answers at ops.listen = {listen}; name a free address"


def sentence(fault: Report) -> str:
    """Return what is wrong with a part of the bridge, and what to do about it."""
    problem, remedy = fault.get("problem", ""), fault.get("remedy", "")
    told = f"{_PARTS.get(fault['part'], fault['part'])}: {problem or 'does not work'}"
    return f"{told}. {remedy}" if remedy else told
