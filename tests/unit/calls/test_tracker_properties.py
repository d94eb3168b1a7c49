"""Whatever the stream: nothing that Zammad would refuse, no entry left open, nothing kept, no exception.

Streams are real recordings, several at a time, interleaved, with events lost at the start, doubled, and cut off
anywhere; and nonsense made of every kind of signal.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ami2zammad.asterisk.recording import read_recording
from ami2zammad.calls.events import Answer, CallEvent, Hangup, NewCall
from ami2zammad.calls.signalling import (
    ApplicationSeen,
    BlindTransferred,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelRenamed,
    ChannelStateChanged,
    DialBegan,
    DialEnded,
    HangupRequested,
    LocalBridged,
    MemberCalled,
    Parked,
    QueueJoined,
    QueueLeft,
    Signal,
    Snapshot,
)
from ami2zammad.calls.tracker import CallTracker, TrackerRules

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings").glob("*/*.ami"))
RECORDINGS_22 = [path for path in RECORDINGS if path.parent.name == "22"]
AN_HOUR = 3600.0


@functools.cache
def signals_of(recording: Path) -> tuple[Signal, ...]:
    return tuple(read_recording(recording))


def told(tracker: CallTracker, stream: Sequence[Signal]) -> list[CallEvent]:
    events = [event for signal in stream for event in tracker.handle(signal)]
    end = stream[-1].at if stream else 0.0
    events += tracker.close(end)
    events += tracker.advance(end + AN_HOUR)
    return events


def check(events: Sequence[CallEvent], tracker: CallTracker) -> None:
    rows: dict[str, list[CallEvent]] = {}
    for event in events:
        rows.setdefault(event.call_id, []).append(event)
    for row in rows.values():
        kinds = [type(event) for event in row]
        assert kinds in ([NewCall, Hangup], [NewCall, Answer, Hangup]), kinds
        assert all(event is row[0] or event.call is row[0] for event in row if not isinstance(event, NewCall))
    assert tracker.live_calls == 0
    assert tracker.live_channels == 0
    assert tracker.tracked_calls == 0
    assert tracker.next_deadline is None
    # White box: what a long-lived process must not keep.
    assert not tracker._switchboard._bridges
    assert not tracker._ended
    assert not tracker._waiting
    assert not tracker._questions
    assert not tracker._calls


def moved(signal: Any, seconds: float, prefix: str) -> Any:
    """Return `signal` as it would be of another call: later, with other identities."""
    changes: dict[str, Any] = {"at": signal.at + seconds}
    for name in ("uniqueid", "linkedid", "dest_uniqueid", "dest_linkedid", "bridge", "first_uniqueid"):
        if getattr(signal, name, ""):
            changes[name] = f"{prefix}-{getattr(signal, name)}"
    for name in ("second_uniqueid", "transferer_uniqueid", "transferee_uniqueid"):
        if getattr(signal, name, ""):
            changes[name] = f"{prefix}-{getattr(signal, name)}"
    return dataclasses.replace(signal, **changes)


@st.composite
def damaged_recordings(draw: st.DrawFn) -> list[Signal]:
    chosen = draw(st.lists(st.sampled_from(RECORDINGS), min_size=1, max_size=4))
    stream: list[Signal] = []
    for number, recording in enumerate(chosen):
        signals = signals_of(recording)
        lost = draw(st.integers(0, len(signals) - 1)) if draw(st.booleans()) else 0
        kept = draw(st.integers(0, len(signals) - lost)) if draw(st.booleans()) else len(signals) - lost
        start = signals[0].at
        shift = draw(st.floats(0, 5)) - start
        stream += [moved(signal, shift, f"pbx{number}") for signal in signals[lost : lost + kept]]
    stream.sort(key=lambda signal: signal.at)
    if stream:
        # What comes a second time comes later: at once, or when the call is long over.
        anywhere = st.integers(0, len(stream) - 1)
        for original, distance in draw(st.lists(st.tuples(anywhere, st.sampled_from([0, 1, 5, 500])), max_size=10)):
            again = min(original + distance, len(stream) - 1)
            stream.insert(again + 1, dataclasses.replace(stream[original], at=stream[again].at))
    return stream


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(damaged_recordings(), st.booleans())
def test_damaged_recordings(stream: list[Signal], announce_on_arrival: bool) -> None:  # noqa: FBT001
    tracker = CallTracker(TrackerRules(announce_on_arrival=announce_on_arrival))
    check(told(tracker, stream), tracker)


@pytest.mark.parametrize("recording", RECORDINGS_22, ids=lambda path: path.stem)
def test_a_signal_that_comes_again_when_all_is_over_changes_nothing(recording: Path) -> None:
    signals = signals_of(recording)
    once = told(CallTracker(TrackerRules()), signals)
    for signal in signals:
        if isinstance(signal, ChannelCreated | ChannelGone | BridgeEntered | DialBegan | QueueJoined):
            tracker = CallTracker(TrackerRules())
            again = told(tracker, [*signals, dataclasses.replace(signal, at=signals[-1].at)])
            assert again == once
            check(again, tracker)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(RECORDINGS), min_size=2, max_size=5))
def test_interleaved_calls_are_told_as_each_would_be_alone(recordings: list[Path]) -> None:
    together: list[Signal] = []
    alone: list[tuple[str, ...]] = []
    for number, recording in enumerate(recordings):
        stream = [moved(signal, -signals_of(recording)[0].at, f"pbx{number}") for signal in signals_of(recording)]
        tracker = CallTracker(TrackerRules())
        alone += [facts(event) for event in told(tracker, stream)]
        together += stream
    together.sort(key=lambda signal: signal.at)
    tracker = CallTracker(TrackerRules())
    assert sorted(facts(event) for event in told(tracker, together)) == sorted(alone)


def facts(event: CallEvent) -> tuple[str, ...]:
    match event:
        case NewCall():
            return ("newCall", event.call_id, event.from_number, event.to_number, ",".join(event.users), event.queue)
        case Answer():
            return ("answer", event.call_id, event.user, event.answering_number)
        case Hangup():
            return ("hangup", event.call_id, event.cause, event.answering_number)


_ids = st.sampled_from(["1.1", "1.2", "1.3", "1.4", "1.5", ""])
_names = st.sampled_from(
    ["PJSIP/trunk-1", "PJSIP/100-2", "PJSIP/101-3", "Local/100@x-4;1", "Local/100@x-4;2", "PJSIP/100-2<ZOMBIE>", ""]
)
_contexts = st.sampled_from(["from-trunk", "from-internal", ""])
_extens = st.sampled_from(["s", "100", "4930600100", "0492214710334", "", "h"])
_states = st.sampled_from([0, 4, 5, 6, 99])
_bridges = st.sampled_from(["b1", "b2"])
_queues = st.sampled_from(["support", "sales"])
_at = st.just(0.0)
_listed = st.builds(
    ChannelListed, _ids, _ids, _names, _states, _contexts, _extens, _extens, st.just("Bob"),
    st.sampled_from(["", "b1"]), st.sampled_from(["", "VoiceMail", "Dial"]),
)  # fmt: skip
_kinds: list[st.SearchStrategy[Signal]] = [
    st.builds(ChannelCreated, _at, _ids, _ids, _names, _states, _contexts, _extens, _extens, st.just("Bob")),
    st.builds(ChannelStateChanged, _at, _ids, _ids, _states),
    st.builds(ChannelRenamed, _at, _ids, _names),
    st.builds(DialBegan, _at, _ids, _ids, _ids, _ids, _extens, st.sampled_from(["49221@trunk", "", "100"]), _extens),
    st.builds(DialEnded, _at, _ids, st.sampled_from(["ANSWER", "BUSY", "CANCEL", "NOANSWER", ""])),
    st.builds(HangupRequested, _at, _ids),
    st.builds(ChannelGone, _at, _ids, st.sampled_from([0, 16, 17, 21, 127])),
    st.builds(BridgeEntered, _at, _ids, _ids, _bridges, st.booleans()),
    st.builds(BridgeLeft, _at, _ids, _bridges),
    st.builds(LocalBridged, _at, _ids, _ids),
    st.builds(QueueJoined, _at, _ids, _queues),
    st.builds(QueueLeft, _at, _ids, _queues),
    st.builds(MemberCalled, _at, _ids, _ids, _queues, st.just("Emma Taylor")),
    st.builds(BlindTransferred, _at, _ids, _ids, _extens),
    st.builds(Parked, _at, _ids),
    st.builds(ApplicationSeen, _at, _ids, st.sampled_from(["VoiceMail", "Dial"])),
    st.builds(Snapshot, _at, st.lists(_listed, max_size=4).map(tuple)),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.one_of(_kinds), st.sampled_from([0.0, 0.01, 0.2, 31.0])), max_size=60))
def test_nonsense(steps: list[tuple[Signal, float]]) -> None:
    now = 0.0
    stream: list[Signal] = []
    for signal, pause in steps:
        now += pause
        stream.append(dataclasses.replace(signal, at=now))
    tracker = CallTracker(TrackerRules(instance="pbx1"))
    events = told(tracker, stream)
    # A channel that comes back long after it ended is another one: only then may an identity come twice.
    if not any(pause > 30 for _, pause in steps):
        check(events, tracker)
