"""What the tracker says: the three events of a log entry in Zammad's caller log.

The vocabulary is that of Zammad's "CTI (generic)" endpoint, because it is the field's: a call is announced,
answered, hung up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Direction(StrEnum):
    """Which way a call goes, seen from the company."""

    IN = "in"
    OUT = "out"


class Cause(StrEnum):
    """Why a call ended, in Zammad's words."""

    NORMAL_CLEARING = "normalClearing"
    """Hung up after the call was up, by either side."""
    BUSY = "busy"
    CANCEL = "cancel"
    """The caller gave up before the call was answered."""
    NO_ANSWER = "noAnswer"
    """Not taken in time, or declined."""
    CONGESTION = "congestion"
    """The network or the trunk could not carry the call."""
    NOT_FOUND = "notFound"
    """No such number, or the device is offline."""
    FORWARDED = "forwarded"
    """Passed on to another party: a new log entry goes on with the call."""


ANONYMOUS = "anonymous"
"""What `from` says where the caller withholds the number."""

VOICEMAIL = "voicemail"
"""The `user` of an answer that marks a call as taken by voicemail (Zammad puts it back on the to-do list)."""


@dataclass(frozen=True, slots=True)
class NewCall:
    """A log entry begins.

    `call_id` is unique for good: the instance's name, the first Linkedid, and for the second and later
    entries of a call `-2`, `-3` and so on. Numbers are E.164 without `+`; extensions stay as they are.
    `at` is the time of the signal that caused the event, in seconds of the clock that stamped the signals.
    """

    kind: ClassVar[str] = "newCall"
    """Zammad's word for it."""

    at: float
    call_id: str
    direction: Direction
    from_number: str
    to_number: str
    users: tuple[str, ...] = ()
    """Names of the agents that ring (`in`) or of the one who calls (`out`)."""
    queue: str = ""
    first_call_id: str = ""
    """`call_id` of the call's first entry: what must be delivered in order has it in common."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The log entry that `call` began was answered.

    `user` is one name, `VOICEMAIL`, or empty (always empty for `out`: it would replace the customer's name).
    """

    kind: ClassVar[str] = "answer"
    """Zammad's word for it."""

    at: float
    call: NewCall
    user: str = ""
    answering_number: str = ""

    @property
    def call_id(self) -> str:
        """The log entry's identity."""
        return self.call.call_id


@dataclass(frozen=True, slots=True)
class Hangup:
    """The log entry that `call` began ended. `answering_number` repeats the answer's."""

    kind: ClassVar[str] = "hangup"
    """Zammad's word for it."""

    at: float
    call: NewCall
    cause: Cause
    answering_number: str = ""

    @property
    def call_id(self) -> str:
        """The log entry's identity."""
        return self.call.call_id


CallEvent = NewCall | Answer | Hangup
