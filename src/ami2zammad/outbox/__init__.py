"""What is still to be delivered: on disk, in order per call, calls side by side.

Knows the types of `calls/` and no other room: who delivers is passed in.
"""

from __future__ import annotations

from ami2zammad.outbox.outbox import Deliverer, Outbox, OutboxRules, Refusal
from ami2zammad.outbox.store import OutboxError

__all__ = ["Deliverer", "Outbox", "OutboxError", "OutboxRules", "Refusal"]
