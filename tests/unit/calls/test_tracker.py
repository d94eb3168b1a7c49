"""What no recording shows: settings, time, snapshots, and calls that go unusual ways."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ami2zammad.calls.directory import Agent, Directory
from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall
from ami2zammad.calls.numbers import NumberPlan
from ami2zammad.calls.signalling import (
    ApplicationSeen,
    BlindTransferred,
    BridgeEntered,
    BridgeLeft,
    ChannelCreated,
    ChannelGone,
    ChannelListed,
    ChannelRenamed,
    ChannelState,
    ChannelStateChanged,
    DialBegan,
    DialEnded,
    HangupRequested,
    MemberCalled,
    Parked,
    QueueJoined,
    QueueLeft,
    Signal,
    Snapshot,
)
from ami2zammad.calls.tracker import CallTracker, TrackerRules

CALLER = "4917699999999"
DID = "4930600100"
NUMBERS = NumberPlan("DE", "0", frozenset({"100"}))
EMMA = Agent("100", "Emma Taylor", "emma@example.com", "030 600100")


class Pbx:
    """Says what a PBX would, and collects what the tracker makes of it."""

    def __init__(self, **rules: Any) -> None:
        self.tracker = CallTracker(TrackerRules(numbers=NUMBERS, directory=Directory([EMMA]), **rules))
        self.now = 0.0
        self.told: list[CallEvent] = []

    def say(self, *signals: Signal) -> list[CallEvent]:
        events = [e for signal in signals for e in self.tracker.handle(dataclasses.replace(signal, at=self.now))]
        self.told += events
        return events

    def wait(self, seconds: float) -> list[CallEvent]:
        self.now += seconds
        events = self.tracker.advance(self.now)
        self.told += events
        return events

    def call_in(self, uniqueid: str = "1.1", number: str = CALLER, context: str = "from-trunk") -> list[CallEvent]:
        return self.say(
            ChannelCreated(0, uniqueid, uniqueid, "PJSIP/trunk-00000001", ChannelState.RING, context, DID, number)
        )

    def dial(
        self, dest: str, name: str, *, by: str = "1.1", call: str = "1.1", context: str = "from-internal", **more: str
    ) -> list[CallEvent]:
        return self.say(
            ChannelCreated(0, dest, call, name, ChannelState.DOWN, context, "s", more.pop("number", ""), ""),
            DialBegan(0, by, call, dest, call, **more),
        )

    def bridge(self, *uniqueids: str, name: str = "b", call: str = "1.1") -> list[CallEvent]:
        return self.say(*(BridgeEntered(0, uniqueid, call, name) for uniqueid in uniqueids))

    def end(self, *uniqueids: str, cause: int = 16) -> list[CallEvent]:
        return self.say(*(ChannelGone(0, uniqueid, cause) for uniqueid in uniqueids))

    def kinds(self) -> list[tuple[str, str]]:
        return [(type(event).__name__, event.call_id) for event in self.told]


def the(events: list[CallEvent], kind: type) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


def test_a_call_is_announced_when_the_settle_time_is_over() -> None:
    pbx = Pbx(settle=0.1)
    pbx.call_in()
    assert pbx.tracker.next_deadline is None
    pbx.dial("1.2", "PJSIP/100-2")
    assert pbx.tracker.next_deadline == pytest.approx(0.1)
    assert pbx.wait(0.05) == []
    pbx.dial("1.3", "PJSIP/101-3")
    new = the(pbx.wait(0.05), NewCall)
    assert (new.users, new.from_number, new.to_number) == (("Emma Taylor", "101"), CALLER, DID)
    assert new.at == pytest.approx(0.1)
    assert pbx.tracker.next_deadline is None


def test_open_entries_are_those_without_a_hangup() -> None:
    pbx = Pbx()
    assert pbx.tracker.open_entries == []
    pbx.call_in()
    pbx.call_in("2.1")
    assert [entry.announced for entry in pbx.tracker.open_entries] == [False, False]
    pbx.dial("1.2", "PJSIP/100-00000002")
    pbx.bridge("1.1", "1.2")
    (answered,) = [entry for entry in pbx.tracker.open_entries if entry.answered]
    assert (answered.call_id, answered.from_number) == ("1.1", CALLER)
    pbx.end("1.1", "1.2")
    assert [entry.call_id for entry in pbx.tracker.open_entries] == ["2.1"]
    assert pbx.tracker.live_calls == 1


def test_announced_on_arrival_it_has_no_users() -> None:
    pbx = Pbx(announce_on_arrival=True)
    new = the(pbx.call_in(), NewCall)
    assert new.users == ()
    pbx.dial("1.2", "PJSIP/100-2")
    assert pbx.wait(1) == []


def test_the_instance_goes_before_the_call_id_of_every_entry() -> None:
    pbx = Pbx(instance="pbx1")
    pbx.call_in()
    pbx.say(QueueJoined(0, "1.1", "support"))
    pbx.wait(1)
    pbx.say(QueueLeft(0, "1.1", "support"), QueueJoined(0, "1.1", "sales"))
    pbx.wait(1)
    assert pbx.kinds() == [("NewCall", "pbx1-1.1"), ("Hangup", "pbx1-1.1"), ("NewCall", "pbx1-1.1-2")]
    assert {event.first_call_id for event in pbx.told if isinstance(event, NewCall)} == {"pbx1-1.1"}


def test_the_same_queue_again_is_the_same_entry() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(QueueJoined(0, "1.1", "support"))
    pbx.wait(1)
    pbx.say(QueueLeft(0, "1.1", "support"), QueueJoined(0, "1.1", "support"))
    pbx.wait(1)
    assert pbx.kinds() == [("NewCall", "1.1")]


def test_an_ignored_context_is_never_told() -> None:
    pbx = Pbx(ignore_contexts=("from-trunk-alarm*",))
    pbx.call_in(context="from-trunk-alarms")
    pbx.dial("1.2", "PJSIP/100-2")
    pbx.wait(1)
    pbx.bridge("1.1", "1.2")
    pbx.end("1.1", "1.2")
    assert pbx.told == []
    assert pbx.tracker.tracked_calls == 0


def test_the_answer_names_the_agent_as_zammad_knows_her() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.dial("1.2", "PJSIP/100-2")
    events = pbx.bridge("1.1", "1.2")
    answer = the(events, Answer)
    assert (answer.user, answer.answering_number) == ("Emma Taylor", "emma@example.com")
    assert the(pbx.end("1.1"), Hangup).answering_number == "emma@example.com"


def test_a_member_of_a_queue_without_a_name_is_called_what_the_queue_calls_him() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(
        QueueJoined(0, "1.1", "support"),
        ChannelCreated(0, "1.2", "1.1", "PJSIP/107-2", ChannelState.DOWN, "from-internal"),
        MemberCalled(0, "1.1", "1.2", "support", "Grace Hopper"),
        DialBegan(0, "1.1", "1.1", "1.2", "1.1"),
    )
    assert the(pbx.wait(1), NewCall).users == ("Grace Hopper",)


def test_an_answer_in_the_dialplan_is_no_answer_and_asks_what_the_caller_does() -> None:
    pbx = Pbx()
    pbx.call_in()
    assert pbx.say(ChannelStateChanged(0, "1.1", "1.1", ChannelState.UP)) == []
    asked = []
    for _ in range(40):
        pbx.wait(0.5)
        asked += [(pbx.now, name) for name in pbx.tracker.take_questions()]
    # Soon, then after twice the time, and from then on every 5 s (looked at every half second here).
    assert [time for time, _ in asked] == [0.5, 1.0, 2.0, 4.0, 7.5, 12.5, 17.5]
    assert {name for _, name in asked} == {"PJSIP/trunk-00000001"}
    assert pbx.told == []


def test_nobody_is_asked_about_while_a_phone_rings_or_a_queue_plays() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(ChannelStateChanged(0, "1.1", "1.1", ChannelState.UP), QueueJoined(0, "1.1", "support"))
    pbx.wait(10)
    assert pbx.tracker.take_questions() == []
    pbx.say(QueueLeft(0, "1.1", "support"))
    pbx.dial("1.2", "PJSIP/100-2")
    pbx.wait(10)
    assert pbx.tracker.take_questions() == []
    pbx.say(DialEnded(0, "1.2", "NOANSWER"))
    pbx.wait(1)
    assert pbx.tracker.take_questions() == ["PJSIP/trunk-00000001"]
    events = pbx.say(ApplicationSeen(0, "1.1", "VoiceMail"))
    assert the(events, Answer).user == "voicemail"
    pbx.wait(60)
    assert pbx.tracker.take_questions() == []


def test_which_applications_take_messages_is_a_setting() -> None:
    pbx = Pbx(voicemail_applications=("MiniVM",))
    pbx.call_in()
    assert pbx.say(ApplicationSeen(0, "1.1", "VoiceMail")) == []
    assert the(pbx.say(ApplicationSeen(0, "1.1", "minivm")), Answer).user == "voicemail"


def test_a_second_trunk_for_the_same_number_is_the_same_entry() -> None:
    pbx = Pbx()
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", "0492214710334"))
    new = the(pbx.dial("1.2", "PJSIP/trunk-2", context="from-trunk", exten="0492214710334"), NewCall)
    assert (new.direction, new.from_number, new.to_number) == (Direction.OUT, "4930600100", "492214710334")
    pbx.say(DialEnded(0, "1.2", "CONGESTION"))
    pbx.end("1.2", cause=34)
    assert pbx.dial("1.3", "PJSIP/trunk2-3", context="from-trunk", exten="0492214710334") == []
    answer = the(pbx.bridge("1.1", "1.3"), Answer)
    assert (answer.user, answer.answering_number) == ("", "")
    assert the(pbx.end("1.3", "1.1"), Hangup).cause is Cause.NORMAL_CLEARING


@pytest.mark.parametrize(
    ("exten", "first_exten", "dial_string", "to"),
    [
        ("0492214710334", "x", "x@trunk", "492214710334"),
        ("s", "0492214710334", "x@trunk", "492214710334"),
        ("s", "s", "492214710334@trunk", "492214710334"),
        ("s", "s", "trunk/492214710334", "492214710334"),
        ("s", "s", "PJSIP/+492214710334@trunk", "492214710334"),
        ("s", "s", "trunk/sip:492214710334@127.0.0.2:5060", "492214710334"),
        ("s", "s", "1/492214710334", "492214710334"),
        ("9492214710334", "x", "492214710334@trunk", "492214710334"),
        ("902214710334", "x", "02214710334@trunk", "492214710334"),
        ("105", "x", "492214710334@trunk", "492214710334"),
        ("02214710334", "x", "2214710334@trunk", "492214710334"),
    ],
)
def test_the_number_dialled_is_found_in_any_dialplan(exten: str, first_exten: str, dial_string: str, to: str) -> None:
    pbx = Pbx()
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", first_exten))
    events = pbx.dial("1.2", "PJSIP/trunk-2", context="from-trunk", exten=exten, dial_string=dial_string)
    assert the(events, NewCall).to_number == to


def test_an_outside_leg_that_the_pbx_dials_first_is_outbound() -> None:
    pbx = Pbx()
    events = pbx.dial("1.1", "PJSIP/trunk-1", by="", context="from-trunk", dial_string="492214710334@trunk")
    new = the(events, NewCall)
    assert (new.direction, new.to_number, new.users) == (Direction.OUT, "492214710334", ())
    pbx.dial("1.2", "PJSIP/100-2")
    assert the(pbx.bridge("1.1", "1.2"), Answer)
    assert the(pbx.end("1.2", "1.1"), Hangup).cause is Cause.NORMAL_CLEARING


def test_an_internal_call_is_told_when_it_is_passed_on_outside() -> None:
    pbx = Pbx()
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", "101"))
    pbx.dial("1.2", "PJSIP/101-2")
    pbx.bridge("1.1", "1.2")
    assert pbx.told == []
    pbx.say(BridgeLeft(0, "1.2", "b"))
    new = the(pbx.dial("1.3", "PJSIP/trunk-3", context="from-trunk", exten="0492214710334"), NewCall)
    assert (new.direction, new.users) == (Direction.OUT, ("Emma Taylor",))


def test_two_calls_that_are_joined_keep_their_identities_and_both_end() -> None:
    pbx = Pbx()
    for uniqueid in ("1.1", "2.1"):
        pbx.call_in(uniqueid)
        pbx.dial(f"{uniqueid}2", "PJSIP/100-2", by=uniqueid, call=uniqueid)
        pbx.bridge(uniqueid, f"{uniqueid}2", name=uniqueid, call=uniqueid)
    pbx.bridge("2.1", "2.12", "1.1", "1.12", name="conference", call="1.1")
    pbx.end("2.1", "1.1", "1.12", "2.12")
    assert sorted(pbx.kinds()) == sorted((kind, c) for c in ("1.1", "2.1") for kind in ("NewCall", "Answer", "Hangup"))


def test_a_transfer_by_the_agent_of_an_outbound_call_waits_for_its_outcome() -> None:
    pbx = Pbx(settle=0.1)
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", "0492214710334"))
    pbx.dial("1.2", "PJSIP/trunk-2", context="from-trunk", exten="0492214710334")
    pbx.bridge("1.1", "1.2")
    pbx.say(BlindTransferred(0, "1.1", "1.2", "101"))
    pbx.end("1.1")
    assert pbx.wait(20) == []
    pbx.dial("1.3", "PJSIP/101-3", by="1.2")
    events = pbx.bridge("1.2", "1.3")
    assert [type(event) for event in events] == [Hangup, NewCall, Answer]
    assert (events[0].call_id, events[1].call_id) == ("1.1", "1.1-2")
    assert isinstance(events[1], NewCall)
    assert (events[1].direction, events[1].to_number) == (Direction.OUT, "492214710334")


def test_a_customer_whom_the_agent_has_left_is_in_call_until_the_customer_has_gone() -> None:
    pbx = Pbx(settle=0.1)
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", "0492214710334"))
    pbx.dial("1.2", "PJSIP/trunk-2", context="from-trunk", exten="0492214710334")
    pbx.bridge("1.1", "1.2")
    pbx.say(Parked(0, "1.2"))
    assert pbx.end("1.1") == []
    assert pbx.wait(60) == []
    pbx.say(ChannelCreated(0, "3.1", "3.1", "PJSIP/101-3", ChannelState.RING, "from-internal", "701"))
    events = pbx.bridge("1.2", "3.1")
    assert [type(event) for event in events] == [Hangup, NewCall, Answer]
    assert the(pbx.end("1.2"), Hangup).cause is Cause.NORMAL_CLEARING
    pbx.end("3.1")
    assert pbx.tracker.tracked_calls == 0


def test_a_far_side_that_still_rings_when_the_agent_has_gone_may_yet_answer_another() -> None:
    # 100 talks with 101, calls outside, and connects the two while it rings.
    pbx = Pbx()
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/100-1", ChannelState.RING, "from-internal", "0492214710334"))
    pbx.dial("1.2", "PJSIP/trunk-2", context="from-trunk", exten="0492214710334")
    assert pbx.end("1.1") == []
    pbx.say(ChannelCreated(0, "3.1", "3.1", "PJSIP/101-3", ChannelState.RING, "from-internal", "100"))
    assert the(pbx.bridge("1.2", "3.1"), Answer)
    assert the(pbx.end("1.2"), Hangup).cause is Cause.NORMAL_CLEARING


def test_another_caller_in_the_same_bridge_has_not_answered() -> None:
    pbx = Pbx()
    for uniqueid in ("1.1", "2.1"):
        pbx.call_in(uniqueid)
    pbx.bridge("1.1", "2.1", name="conference")
    assert pbx.told == []


def test_what_an_internal_call_dials_that_was_joined_belongs_to_the_callers() -> None:
    pbx = Pbx()
    pbx.say(ChannelCreated(0, "1.1", "1.1", "PJSIP/101-1", ChannelState.RING, "from-internal", "100"))
    pbx.dial("1.2", "PJSIP/100-2")
    pbx.call_in("5.1")
    pbx.dial("5.2", "PJSIP/100-3", by="5.1", call="5.1")
    pbx.bridge("5.1", "5.2", call="5.1")
    # 100 connects the caller with 101: the older call's Linkedid is everybody's from now on.
    pbx.end("5.2", "1.2")
    pbx.bridge("5.1", "1.1", name="joined", call="1.1")
    pbx.say(BridgeLeft(0, "1.1", "joined"))
    pbx.end("1.1")
    assert pbx.dial("1.9", "PJSIP/trunk-9", by="5.1", context="from-trunk", dial_string="492214710334@trunk") == []
    pbx.bridge("5.1", "1.9", name="outside")
    assert {call_id for _, call_id in pbx.kinds()} == {"5.1", "5.1-2", "5.1-3"}


def test_busy_said_by_the_dialplan_is_busy() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(HangupRequested(0, "1.1"))
    assert the(pbx.end("1.1", cause=17), Hangup).cause is Cause.BUSY


def test_a_linkedid_that_comes_again_gets_another_call_id() -> None:
    pbx = Pbx()
    for uniqueid in ("1.1", "1.2"):
        pbx.say(
            ChannelCreated(0, uniqueid, "1.1", "PJSIP/trunk-1", ChannelState.RING, "from-trunk", DID, CALLER),
            ChannelGone(0, uniqueid, 16),
        )
    assert [call_id for _, call_id in pbx.kinds()] == ["1.1", "1.1", "1.1-2", "1.1-2"]


def test_a_trunk_known_by_its_context_is_known_by_its_name_in_a_snapshot() -> None:
    pbx = Pbx()
    pbx.call_in("7.1")
    pbx.end("7.1")
    caller = dataclasses.replace(listed("1.1", "PJSIP/trunk-2", ChannelState.UP), context="ext-group", bridge="b")
    events = pbx.say(Snapshot(0, (caller, listed("1.2", "PJSIP/100-2", ChannelState.UP, bridge="b"))))
    assert [type(event) for event in events] == [NewCall, Answer]


def test_a_snapshot_connects_the_halves_of_local_channels() -> None:
    pbx = Pbx()
    halves = [listed(f"1.{n + 2}", f"Local/100@x-1;{n}", ChannelState.UP, bridge=f"b{n}") for n in (1, 2)]
    caller = listed("1.1", "PJSIP/trunk-2", ChannelState.UP, bridge="b1")
    events = pbx.say(Snapshot(0, (caller, *halves, listed("1.9", "PJSIP/100-2", ChannelState.UP, bridge="b2"))))
    assert the(events, Answer).user == "Emma Taylor"


def test_a_masquerade_turns_plumbing_into_a_device() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(ChannelCreated(0, "1.2", "1.1", "AsyncGoto/PJSIP/101-2", ChannelState.UP, "from-internal"))
    pbx.bridge("1.1", "1.2")
    assert pbx.told == []
    answer = the(pbx.say(ChannelRenamed(0, "1.2", "PJSIP/101-2")), Answer)
    assert answer.answering_number == "101"


@pytest.mark.parametrize("requested", [True, False])
def test_a_caller_for_whom_no_device_was_there(requested: bool) -> None:  # noqa: FBT001
    pbx = Pbx()
    pbx.call_in()
    if requested:
        pbx.say(HangupRequested(0, "1.1"))
    assert the(pbx.end("1.1", cause=3), Hangup).cause is Cause.NOT_FOUND


def test_a_device_whose_end_comes_after_the_callers_still_counts() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.dial("1.2", "PJSIP/100-2")
    pbx.say(DialEnded(0, "1.2", "NOANSWER"))
    # 404: only the cause tells it from a time-out, and the caller's channel has it too.
    assert the(pbx.end("1.1", cause=1), Hangup).cause is Cause.NOT_FOUND


def listed(uniqueid: str, name: str, state: ChannelState, **more: str) -> ChannelListed:
    context = "from-trunk" if "trunk" in name else "from-internal"
    return ChannelListed(uniqueid, "1.1", name, state, context, DID, CALLER if "trunk" in name else "", **more)


def test_a_snapshot_ends_what_is_gone_and_nothing_else() -> None:
    pbx = Pbx()
    for uniqueid in ("1.1", "2.1", "3.1"):
        pbx.call_in(uniqueid)
        pbx.dial(f"{uniqueid}2", "PJSIP/100-2", by=uniqueid, call=uniqueid)
    pbx.bridge("1.1", "1.12", name="a")
    pbx.bridge("2.1", "2.12", name="b", call="2.1")
    pbx.wait(1)
    still = (
        listed("1.1", "PJSIP/trunk-00000001", ChannelState.UP, bridge="a"),
        listed("1.12", "PJSIP/100-2", ChannelState.UP, bridge="a"),
    )
    events = pbx.say(Snapshot(0, still))
    assert [(type(e), e.call_id, e.cause) for e in events if isinstance(e, Hangup)] == [
        (Hangup, "2.1", Cause.NORMAL_CLEARING),
        (Hangup, "3.1", Cause.CANCEL),
    ]
    assert len(events) == 2
    assert pbx.say(Snapshot(0, still)) == []


def test_a_pbx_restarted_within_a_second_gives_the_same_identities_to_other_calls() -> None:
    pbx = Pbx()
    pbx.call_in()
    pbx.say(Snapshot(0, ()))
    pbx.call_in()
    pbx.end("1.1")
    assert pbx.kinds() == [("NewCall", "1.1"), ("Hangup", "1.1"), ("NewCall", "1.1-2"), ("Hangup", "1.1-2")]


def test_a_snapshot_takes_in_a_call_that_rings() -> None:
    pbx = Pbx()
    pbx.say(
        Snapshot(
            0,
            (
                listed("1.2", "PJSIP/100-2", ChannelState.RINGING),
                listed("1.1", "PJSIP/trunk-1", ChannelState.RING, application="Dial"),
            ),
        )
    )
    new = the(pbx.wait(1), NewCall)
    assert (new.direction, new.users) == (Direction.IN, ("Emma Taylor",))
    assert the(pbx.bridge("1.1", "1.2"), Answer).user == "Emma Taylor"


def test_a_snapshot_takes_in_a_call_that_is_up_and_one_in_voicemail() -> None:
    pbx = Pbx()
    events = pbx.say(
        Snapshot(
            0,
            (
                listed("1.1", "PJSIP/trunk-1", ChannelState.UP, bridge="b", application="Dial"),
                listed("1.2", "PJSIP/100-2", ChannelState.UP, bridge="b", application="AppDial"),
                dataclasses.replace(
                    listed("2.1", "PJSIP/trunk-2", ChannelState.UP, application="VoiceMail"), linkedid="2.1"
                ),
            ),
        )
    )
    assert [type(event) for event in events] == [NewCall, Answer, NewCall, Answer]


def test_time_that_goes_back_does_no_harm() -> None:
    pbx = Pbx(settle=0.1)
    pbx.call_in()
    pbx.dial("1.2", "PJSIP/100-2")
    pbx.tracker.advance(-100.0)
    assert the(pbx.wait(0.2), NewCall)
