"""All that knows Zammad's "CTI (generic)" endpoint: what to send, how to read the replies, when to try again.

Knows the types of `calls/` and no other room.
"""

from __future__ import annotations

from ami2zammad.zammad.client import CheckResult, ZammadClient
from ami2zammad.zammad.endpoint import ZammadEndpoint
from ami2zammad.zammad.errors import BadEndpoint, EventRefused, ZammadError

__all__ = [
    "BadEndpoint",
    "CheckResult",
    "EventRefused",
    "ZammadClient",
    "ZammadEndpoint",
    "ZammadError",
]
