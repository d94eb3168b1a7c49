"""What a snapshot of all channels says, in the words of the signals that were missed."""

from __future__ import annotations

from .signalling import (
    ApplicationSeen,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelListed,
    ChannelState,
    ChannelStateChanged,
    DialBegan,
    QueueJoined,
    Signal,
)


def signals_of(listed: ChannelListed, at: float, *, known: bool, bridge: str = "") -> list[Signal]:
    """Return the signals that would have led to where a listed channel is.

    `known`: its beginning was seen; it was in `bridge` then.

    A snapshot does not say who dialled whom. The channel that gave the call its Linkedid began it; the others count as
    dialled by it.
    """
    signals: list[Signal] = []
    if not known:
        first = listed.uniqueid == listed.linkedid
        signals.append(
            ChannelCreated(
                at=at,
                uniqueid=listed.uniqueid,
                linkedid=listed.linkedid,
                name=listed.name,
                state=ChannelState.RING if first else ChannelState.DOWN,
                context=listed.context,
                exten=listed.exten,
                caller_number=listed.caller_number,
                caller_name=listed.caller_name,
            )
        )
        if not first:
            signals.append(
                DialBegan(at, listed.linkedid, listed.linkedid, listed.uniqueid, listed.linkedid, listed.exten)
            )
    signals.append(ChannelStateChanged(at, listed.uniqueid, listed.linkedid, listed.state))
    if listed.bridge:
        signals.append(BridgeEntered(at, listed.uniqueid, listed.linkedid, listed.bridge))
    elif bridge:
        signals.append(BridgeLeft(at, listed.uniqueid, bridge))
    if listed.queue and not listed.bridge:
        signals.append(QueueJoined(at, listed.uniqueid, listed.queue))
    if listed.application:
        signals.append(ApplicationSeen(at, listed.uniqueid, listed.application))
    return signals


def age(listed: ChannelListed) -> tuple[bool, float, int]:
    """Return what sorts listed channels so that the one that began its call comes before those that it dialled.

    A Uniqueid is `[systemname-]epoch.sequence`; those that the bridge itself gave out have no time in them.
    """
    began = listed.uniqueid == listed.linkedid
    epoch, _, sequence = listed.uniqueid.rpartition("-")[2].partition(".")
    try:
        return not began, float(epoch), int(sequence)
    except ValueError:
        return not began, float("inf"), 0
