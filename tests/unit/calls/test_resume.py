"""A restart of the bridge at any moment of any recorded call: nothing lost, nothing told twice, nothing left open."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ami2zammad.asterisk.recording import read_recording
from ami2zammad.calls.documents import UnreadableDocumentError, from_document
from ami2zammad.calls.events import Answer, CallEvent, Cause, Hangup, NewCall
from ami2zammad.calls.signalling import (
    BridgeEntered,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelState,
    DialBegan,
    QueueJoined,
    Signal,
    Snapshot,
)
from ami2zammad.calls.tracker import CallTracker, TrackerRules

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings").glob("*/*.ami"))
RULES = TrackerRules(trunks=("PJSIP/trunk*",))


@functools.cache
def signals_of(recording: Path) -> tuple[Signal, ...]:
    return tuple(signal for signal in read_recording(recording) if not isinstance(signal, Snapshot))


class Pbx:
    """What a `Status` would list, followed along a stream by a tracker that is never restarted."""

    def __init__(self) -> None:
        self.tracker = CallTracker(RULES)

    def snapshot(self, at: float) -> Snapshot:
        board = self.tracker._switchboard
        listed = [
            ChannelListed(
                one.uniqueid,
                one.linkedid,
                one.name,
                one.state,
                one.context,
                one.exten,
                one.caller_number,
                one.caller_name,
                one.bridge,
                "Queue" if one is one.call.party and one.call.queue and not one.bridge else "",
                one.call.queue if one is one.call.party and not one.bridge else "",
            )
            for one in board.channels.values()
        ]
        return Snapshot(at, tuple(listed), at)


class Bridge:
    """A tracker and what it keeps on disk."""

    def __init__(self) -> None:
        self.tracker = CallTracker(RULES)
        self.kept: dict[str, str] = {}
        self.told: list[CallEvent] = []

    def hear(self, events: list[CallEvent]) -> None:
        self.told += events
        for call_id, document in self.tracker.changes_with(events).items():
            if document is None:
                self.kept.pop(call_id, None)
            else:
                self.kept[call_id] = document

    def restart(self, snapshot: Snapshot) -> None:
        """End without a word, and come back with nothing but what was kept."""
        self.tracker = CallTracker(RULES)
        for document in list(self.kept.values()):
            self.hear(self.tracker.resume(document, snapshot.at))
        self.hear(self.tracker.handle(snapshot))


def rows(events: Iterable[CallEvent]) -> dict[str, list[CallEvent]]:
    found: dict[str, list[CallEvent]] = {}
    for event in events:
        found.setdefault(event.call_id, []).append(event)
    return found


def played(stream: Sequence[Signal], cuts: Sequence[int]) -> tuple[dict[str, list[CallEvent]], Bridge]:
    """Return the rows with restarts before these signals."""
    pbx, bridge = Pbx(), Bridge()
    for number, signal in enumerate(stream):
        if number in cuts:
            bridge.restart(pbx.snapshot(signal.at))
        pbx.tracker.handle(signal)
        bridge.hear(bridge.tracker.handle(signal))
    bridge.hear(bridge.tracker.close(stream[-1].at))
    return rows(bridge.told), bridge


@functools.cache
def undisturbed(recording: Path) -> dict[str, list[CallEvent]]:
    return played(signals_of(recording), [])[0]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_restart_at_any_moment(data: st.DataObject) -> None:
    recording = data.draw(st.sampled_from(RECORDINGS), label="recording")
    stream = signals_of(recording)
    cuts = data.draw(st.lists(st.integers(0, len(stream) - 1), min_size=1, max_size=4), label="restarts before")
    expected, (found, bridge) = undisturbed(recording), played(stream, cuts)
    assert list(found) == list(expected)
    for call_id, events in found.items():
        assert [type(event) for event in events] == [type(event) for event in expected[call_id]], call_id
        # From the first channel alone it cannot be told who began a call that the PBX makes by itself.
        if recording.name != "originate_outside_first.22.ami":
            assert _call(events[0]).direction is _call(expected[call_id][0]).direction
    assert bridge.kept == {}
    assert bridge.tracker.tracked_calls == 0


def _call(event: CallEvent) -> NewCall:
    return event if isinstance(event, NewCall) else event.call


def answered_call() -> tuple[Bridge, str]:
    """Return a bridge with one answered inbound call, and its callId."""
    stream = signals_of(next(one for one in RECORDINGS if one.parent.name == "22" and one.stem == "in_busy"))
    assert isinstance(stream[0], ChannelCreated)
    at, uniqueid = stream[0].at, stream[0].uniqueid
    bridge = Bridge()
    agent = ChannelCreated(at, "a.1", uniqueid, "PJSIP/100-1", ChannelState.DOWN, caller_number="100")
    for signal in (
        stream[0],
        agent,
        DialBegan(at, uniqueid, uniqueid, "a.1", uniqueid),
        BridgeEntered(at, uniqueid, uniqueid, "b"),
        BridgeEntered(at, "a.1", uniqueid, "b"),
    ):
        bridge.hear(bridge.tracker.handle(signal))
    assert [type(event) for event in bridge.told] == [NewCall, Answer]
    return bridge, uniqueid


def test_what_ended_while_the_bridge_was_away_gets_its_hangup() -> None:
    bridge, _ = answered_call()
    bridge.restart(Snapshot(1e10, ()))
    assert isinstance(bridge.told[-1], Hangup)
    assert bridge.told[-1].cause is Cause.NORMAL_CLEARING
    assert bridge.kept == {}


def test_who_rang_and_gave_up_while_the_bridge_was_away_gave_up() -> None:
    bridge = Bridge()
    at = 0.0
    for signal in (
        ChannelCreated(
            at, "1.1", "1.1", "PJSIP/trunk-1", ChannelState.RING, "from-trunk", "4930600130", "4917699999999"
        ),
        QueueJoined(at, "1.1", "support"),
    ):
        bridge.hear(bridge.tracker.handle(signal))
    bridge.hear(bridge.tracker.advance(1.0))
    bridge.restart(Snapshot(2.0, ()))
    assert isinstance(bridge.told[-1], Hangup)
    assert bridge.told[-1].cause is Cause.CANCEL


ARRIVES = ChannelCreated(
    0.0, "1.1", "1.1", "PJSIP/trunk-1", ChannelState.RING, "from-trunk", "4930600130", "4917699999999"
)


def test_who_hung_up_in_the_ivr_while_the_bridge_was_away_is_told() -> None:
    bridge = Bridge()
    bridge.hear(bridge.tracker.handle(ARRIVES))
    bridge.restart(Snapshot(2.0, ()))
    assert [type(event) for event in bridge.told] == [NewCall, Hangup]
    assert bridge.kept == {}


def test_who_was_refused_before_a_restart_was_busy_after_it() -> None:
    bridge = Bridge()
    for signal in (ARRIVES, QueueJoined(0.0, "1.1", "support")):
        bridge.hear(bridge.tracker.handle(signal))
    bridge.hear(bridge.tracker.advance(1.0))
    (new_call,) = bridge.told
    assert isinstance(new_call, NewCall)
    assert bridge.tracker.refuse(new_call) == "PJSIP/trunk-1"
    bridge.hear([])
    bridge.restart(Snapshot(2.0, ()))
    assert isinstance(bridge.told[-1], Hangup)
    assert bridge.told[-1].cause is Cause.BUSY


def test_a_call_that_is_resumed_late_and_has_another_linkedid_by_then_is_ended_once_and_forgotten() -> None:
    before, uniqueid = answered_call()
    after = Bridge()
    after.kept = dict(before.kept)
    channels = (
        ChannelListed(uniqueid, "0.1", "PJSIP/trunk-1", ChannelState.UP, bridge="b"),
        ChannelListed("a.1", "0.1", "PJSIP/100-1", ChannelState.UP, bridge="b"),
    )
    after.hear(after.tracker.handle(Snapshot(1e10, channels)))
    (document,) = before.kept.values()
    after.hear(after.tracker.resume(document, 1e10))
    assert [type(event) for event in after.told if event.call_id == uniqueid] == [Hangup]
    after.hear(after.tracker.handle(Snapshot(2e10, ())))
    assert (after.tracker.tracked_calls, after.tracker.live_calls, after.kept) == (0, 0, {})
    assert len([event for event in after.told if event.call_id == uniqueid]) == 1


def test_a_queue_is_known_from_the_list_of_channels() -> None:
    waiting = ChannelListed(
        "1.1", "1.1", "PJSIP/trunk-1", ChannelState.UP, "queues", "4930600130", "4917699999999",
        application="Queue", queue="support",
    )  # fmt: skip
    tracker = CallTracker(RULES)
    events = tracker.handle(Snapshot(0.0, (waiting,))) + tracker.advance(1.0)
    (new,) = events
    assert isinstance(new, NewCall)
    assert new.queue == "support"
    # And that it waits there no longer: voicemail, say.
    elsewhere = ChannelListed("1.1", "1.1", "PJSIP/trunk-1", ChannelState.UP, "vm", "s", application="VoiceMail")
    events = tracker.handle(Snapshot(2.0, (elsewhere,)))
    assert [getattr(event, "user", "") for event in events] == ["voicemail"]


def test_what_is_created_or_ends_while_the_list_is_made_is_neither_ended_nor_raised_from_the_dead() -> None:
    tracker = CallTracker(RULES)
    created = ChannelCreated(5.0, "1.1", "1.1", "PJSIP/trunk-1", ChannelState.RING, "from-trunk", "4930600100", "49171")
    tracker.handle(created)
    assert tracker.handle(Snapshot(6.0, (), began=5.0)) == []
    assert tracker.knows("1.1")
    # Of this one nothing was known before.
    tracker.handle(ChannelGone(6.5, "3.1", 16))
    tracker.handle(Snapshot(6.6, (ChannelListed("3.1", "3.1", "PJSIP/trunk-3", ChannelState.UP),), began=6.4))
    assert not tracker.knows("3.1")
    tracker.handle(created)
    listed = ChannelListed("2.1", "2.1", "PJSIP/100-1", ChannelState.UP)
    tracker.handle(Snapshot(7.0, (listed,), began=7.0))
    assert tracker.knows("2.1")
    assert not tracker.knows("1.1")


def test_entries_that_nobody_sees_are_ended_and_not_begun_again() -> None:
    bridge, uniqueid = answered_call()
    (ended,) = bridge.tracker.give_up(1e10)
    assert isinstance(ended, Hangup)
    still_there = ChannelListed(uniqueid, uniqueid, "PJSIP/trunk-1", ChannelState.UP, bridge="b")
    assert bridge.tracker.handle(Snapshot(2e10, (still_there,))) == []


def test_a_call_that_never_got_a_channel_does_not_stay_open() -> None:
    bridge = Bridge()
    bridge.hear(bridge.tracker.begin_click_to_dial("ami2zammad-1", 0.0, extension="100", number="+492214710334"))
    bridge.restart(Snapshot(1.0, ()))
    assert [type(event) for event in bridge.told] == [NewCall, Hangup]
    assert bridge.kept == {}


def test_too_many_channels_are_counted_and_harm_no_call_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ami2zammad.calls.tracker.MOST_CHANNELS", 3)
    bridge, _ = answered_call()
    for number in range(5):
        bridge.tracker.handle(ChannelCreated(0.0, f"9.{number}", "9.0", "PJSIP/trunk-9", ChannelState.RING))
    assert (bridge.tracker.live_channels, bridge.tracker.untracked) == (3, 4)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"version": 99}', '{"version": 1, "call_id": "1"}'])
def test_what_makes_no_sense_is_said_to(text: str) -> None:
    with pytest.raises(UnreadableDocumentError):
        from_document(text, 0.0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_nonsense_is_never_anything_else_than_unreadable(value: object) -> None:
    bridge, _ = answered_call()
    (document,) = bridge.kept.values()
    for key in json.loads(document):
        text = json.dumps(json.loads(document) | {key: value})
        try:
            from_document(text, 0.0)
        except UnreadableDocumentError:
            continue
