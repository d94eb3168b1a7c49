"""What can go wrong here and is not simply tried again.

No message carries the token: texts are written here, never taken from an HTTP library, whose exceptions
name the URL.
"""

from __future__ import annotations


class ZammadError(Exception):
    """Base of all errors of this room. The message says what to do."""


class BadEndpoint(ZammadError):  # noqa: N818 - "bad endpoint error" says no more
    """The settings of the endpoint cannot work: no usable URL, or a CA file that cannot be read."""


class EventRefused(ZammadError):  # noqa: N818 - an outcome of a delivery, named in the words of its readers
    """Zammad will never take this event. The rest goes on.

    `reason` is one line of text with what Zammad said; `status` is the HTTP status.
    """

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
