"""What is still to be delivered: in order per call, calls side by side.

Knows the types of `calls/` and no other room: who delivers is passed in.
"""

from __future__ import annotations

from ami2zammad.outbox.outbox import Deliverer, Outbox, Refusal

__all__ = ["Deliverer", "Outbox", "Refusal"]
