"""From Q.850 causes and dial statuses to the seven causes that Zammad knows.

Sources: ITU-T Q.850 for the numbers, Asterisk's `causes.h` for those that it adds (0 unknown, 26 answered
elsewhere, 127 interworking), Zammad's "CTI (generic)" documentation for the result.
"""

from __future__ import annotations

from typing import Final

from .events import Cause

_OF_NUMBER: Final = {
    1: Cause.NOT_FOUND,  # unallocated number
    2: Cause.NOT_FOUND,  # no route to transit network
    3: Cause.NOT_FOUND,  # no route to destination
    17: Cause.BUSY,
    18: Cause.NO_ANSWER,  # no user responding
    19: Cause.NO_ANSWER,  # no answer from user
    20: Cause.NOT_FOUND,  # subscriber absent: the device is offline
    21: Cause.NO_ANSWER,  # call rejected: declined, do not disturb
    22: Cause.NOT_FOUND,  # number changed
    27: Cause.CONGESTION,  # destination out of order
    28: Cause.NOT_FOUND,  # invalid number format
    34: Cause.CONGESTION,  # no circuit available
    38: Cause.CONGESTION,  # network out of order
    41: Cause.CONGESTION,  # temporary failure
    42: Cause.CONGESTION,  # switching equipment congestion
    44: Cause.CONGESTION,  # requested channel not available
    47: Cause.CONGESTION,  # resource unavailable
    58: Cause.CONGESTION,  # bearer capability not available
    66: Cause.CONGESTION,  # channel type not implemented
    127: Cause.CONGESTION,  # interworking: the trunk failed without saying how
}

_OF_DIAL_STATUS: Final = {
    "BUSY": Cause.BUSY,
    "CONGESTION": Cause.CONGESTION,
    "CHANUNAVAIL": Cause.NOT_FOUND,
}

# Which device's fate counts where several were tried: the one nearest to a conversation.
_BEST_FIRST: Final = (Cause.BUSY, Cause.NO_ANSWER, Cause.NOT_FOUND, Cause.CONGESTION)


def of_number(number: int) -> Cause | None:
    """Return what a Q.850 cause number says, or None where it says nothing about a failure (0, 16, 26, …)."""
    return _OF_NUMBER.get(number)


def of_leg(dial_status: str, number: int) -> Cause:
    """Return the outcome of one dialled device that did not take the call.

    `dial_status` alone is not enough (a declined call, an unknown number and a time-out are all NOANSWER), the
    cause of the channel's end alone neither (a device that was only called off ends with 127 or 0).
    """
    if dial_status == "CANCEL":
        return Cause.NO_ANSWER
    return _OF_NUMBER.get(number) or _OF_DIAL_STATUS.get(dial_status, Cause.NO_ANSWER)


def better(one: Cause | None, other: Cause) -> Cause:
    """Return the outcome that counts of two: busy over noAnswer over notFound over congestion."""
    if one is None:
        return other
    return min(one, other, key=_BEST_FIRST.index)
