"""What happens on a telephone, one function each, and what the caller log is to say about it.

Every row of the table of calls that the program promises to understand is here in all its variants.
A scenario plays both sides (trunk and phones), so it places the call, sees it through, and returns when
the last channel is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.e2e.config import PHONES
from tests.e2e.rig import BLOCKED_CALLER, CALLER, DID, OUTSIDE, Rig
from tests.e2e.sip import Call

EMMA, CHRIS, ZOE = PHONES["100"], PHONES["101"], PHONES["102"]

MOBILE = "4917612345678"
"""Where DID …160 is passed straight on to."""

VOICEMAIL_STAY = 1.5
"""Seconds that a caller stays in the voicemail: long enough for somebody to ask Asterisk what goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One expected row of the caller log; a field that is None is not compared."""

    direction: str | None
    from_number: str | None = None
    to_number: str | None = None
    users: tuple[str, ...] | None = None
    """The users of newCall, in any order."""
    queue: str | None = None
    """The queue of newCall; "" = there must be none."""
    answered: bool
    """Whether there is an answer event at all."""
    answered_by: str | None = None
    """The user of the answer; "" = there must be none."""
    answering_number: str | None = None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario by name."""

    name: str
    summary: str
    expected: tuple[Entry, ...]
    voicemail: bool
    """Whether the caller ends up in the voicemail application."""
    _place: Callable[[Rig], Awaitable[int | None]]

    async def place(self, rig: Rig) -> int | None:
        """Play it; returns the final SIP status that the caller got, where that is the point of it."""
        await rig.begin()
        try:
            result = await self._place(rig)
            await rig.idle()
        except BaseException:
            await rig.hang_up_everything()
            raise
        return result


SCENARIOS: dict[str, Scenario] = {}

Play = Callable[[Rig], Awaitable[int | None]]


def scenario(*expected: Entry, voicemail: bool = False) -> Callable[[Play], Play]:
    """Register a scenario under its function's name."""

    def register(play: Play) -> Play:
        name = getattr(play, "__name__", "")
        summary = (play.__doc__ or "").strip().splitlines()[0]
        SCENARIOS[name] = Scenario(name, summary, expected, voicemail, play)
        return play

    return register


def missed(cause: str, *users: str, queue: str | None = "", to: str = DID, caller: str = CALLER) -> Entry:
    """Return an incoming call that nobody took."""
    return Entry(
        direction="in",
        from_number=caller,
        to_number=to,
        users=users or None,
        queue=queue,
        answered=False,
        cause=cause,
    )


def taken(
    number: str,
    *users: str,
    cause: str = "normalClearing",
    queue: str | None = "",
    to: str | None = DID,
    caller: str = CALLER,
) -> Entry:
    """Return an incoming call that the agent with extension *number* took."""
    return Entry(
        direction="in",
        from_number=caller,
        to_number=to,
        users=users or None,
        queue=queue,
        answered=True,
        answered_by=PHONES[number],
        answering_number=number,
        cause=cause,
    )


def dialled(cause: str | None, *, answered: bool, to: str = OUTSIDE) -> Entry:
    """Return an outgoing call of agent 100."""
    return Entry(
        direction="out",
        from_number="100",
        to_number=to,
        users=(EMMA,),
        queue="",
        answered=answered,
        answered_by="" if answered else None,
        cause=cause,
    )


# --- In, to one phone ---------------------------------------------------------------------------------


async def answered_by_100(rig: Rig, did: str = DID) -> tuple[Call, Call]:
    """Place a call that 100 takes; returns the caller's and the agent's side of it."""
    caller = rig.dial_in(did)
    (emma,) = await rig.ringing("100")
    emma.answer()
    await caller.answered()
    await rig.together("PJSIP/trunk", "PJSIP/100")
    await rig.talk()
    return caller, emma


@scenario(taken("100", EMMA))
async def in_answer_caller_hangs_up(rig: Rig) -> None:
    """100 answers, the caller hangs up."""
    caller, emma = await answered_by_100(rig)
    await caller.bye()
    await emma.ended()


@scenario(taken("100", EMMA))
async def in_answer_agent_hangs_up(rig: Rig) -> None:
    """100 answers, and hangs up."""
    caller, emma = await answered_by_100(rig)
    await emma.bye()
    await caller.ended()


@scenario(missed("cancel", EMMA))
async def in_cancel(rig: Rig) -> None:
    """The caller gives up while 100 rings."""
    caller = rig.dial_in()
    (emma,) = await rig.ringing("100")
    await caller.progress()
    await caller.cancel()
    await emma.ended()


async def refused_by_100(rig: Rig, status: int) -> int:
    caller = rig.dial_in()
    (emma,) = await rig.ringing("100")
    emma.decline(status)
    return await caller.final()


@scenario(missed("busy", EMMA))
async def in_busy(rig: Rig) -> int:
    """100 is busy: it says so at once, without ringing."""
    caller = rig.dial_in()
    (await rig.phones["100"].incoming()).decline(486)
    return await caller.final()


@scenario(missed("noAnswer", EMMA))
async def in_declined(rig: Rig) -> int:
    """The agent presses the red button (603)."""
    return await refused_by_100(rig, 603)


@scenario(missed("busy", EMMA))
async def in_declined_as_busy(rig: Rig) -> int:
    """The agent presses the red button of a phone that says 486 then, after it rang."""
    return await refused_by_100(rig, 486)


@scenario(missed("noAnswer", EMMA))
async def in_do_not_disturb(rig: Rig) -> int:
    """100 does not want to be disturbed (480)."""
    caller = rig.dial_in()
    (await rig.phones["100"].incoming()).decline(480)
    return await caller.final()


@scenario(missed("notFound", EMMA))
async def in_offline_404(rig: Rig) -> int:
    """100's device says that there is no such number: how some say that nobody is logged in."""
    caller = rig.dial_in()
    (await rig.phones["100"].incoming()).decline(404)
    return await caller.final()


@scenario(missed("notFound", to="4930600103"))
async def in_offline_no_contact(rig: Rig) -> int:
    """103 is not registered: Asterisk has nowhere to send the call."""
    return await rig.dial_in("4930600103").final()


@scenario(missed("noAnswer", EMMA, to="4930600110"))
async def in_rings_out(rig: Rig) -> int:
    """Nobody answers within Dial's time limit."""
    caller = rig.dial_in("4930600110")
    (emma,) = await rig.ringing("100")
    status = await caller.final()
    await emma.ended()
    return status


@scenario(taken("100", EMMA, caller="anonymous"))
async def in_withheld(rig: Rig) -> None:
    """The number is withheld, the way RFC 3323 has it."""
    caller = rig.trunk.call(
        DID, from_header='"Anonymous" <sip:anonymous@anonymous.invalid>', headers=[("Privacy", "id")]
    )
    await _answer_and_hang_up(rig, caller)


@scenario(taken("100", EMMA, caller="anonymous"))
async def in_withheld_no_number(rig: Rig) -> None:
    """The number is withheld: the From has none at all."""
    caller = rig.trunk.call(DID, from_header="<sip:127.0.0.2>")
    await _answer_and_hang_up(rig, caller)


@scenario(taken("100", EMMA))
async def in_caller_name(rig: Rig) -> None:
    """The caller has a name, with characters that are not ASCII."""
    caller = rig.dial_in(name="Jürgen Þórsson 株式会社 🙂")
    await _answer_and_hang_up(rig, caller)


async def _answer_and_hang_up(rig: Rig, caller: Call) -> None:
    (emma,) = await rig.ringing("100")
    emma.answer()
    await caller.answered()
    await rig.together("PJSIP/trunk", "PJSIP/100")
    await rig.talk()
    await caller.bye()
    await emma.ended()


@scenario(missed("busy", caller=BLOCKED_CALLER))
async def in_blocked_caller(rig: Rig) -> int:
    """A caller that Zammad wants refused; without a bridge that refuses, 100 rings until the caller gives up."""
    caller = rig.dial_in(caller=BLOCKED_CALLER)
    (emma,) = await rig.ringing("100")
    await rig.talk(2)
    if caller.status < 200:
        await caller.cancel()
    await emma.ended()
    return caller.status


@scenario(taken("100", EMMA), taken("101", CHRIS, to="4930600101", caller="4917688888888"))
async def in_two_calls(rig: Rig) -> None:
    """Two calls at the same time, to two phones."""
    one = rig.dial_in()
    (emma,) = await rig.ringing("100")
    two = rig.dial_in("4930600101", caller="4917688888888")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await two.answered()
    emma.answer()
    await one.answered()
    await rig.in_bridge("PJSIP/trunk", count=2)
    await rig.talk()
    await one.bye()
    await emma.ended()
    await chris.bye()
    await two.ended()


# --- In, to several phones ----------------------------------------------------------------------------


async def _ring_group(rig: Rig, did: str) -> None:
    caller = rig.dial_in(did)
    _, chris, zoe = await rig.ringing("100", "101", "102")
    zoe.decline(486)
    await rig.ami.event("Hangup", Channel="PJSIP/102-*")
    chris.answer()
    await caller.answered()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, ZOE, to="4930600120"))
async def in_ring_group(rig: Rig) -> None:
    """100, 101 and 102 ring; 102 is busy, 101 answers."""
    await _ring_group(rig, "4930600120")


@scenario(taken("101", EMMA, CHRIS, ZOE, to="4930600121"))
async def in_ring_group_local(rig: Rig) -> None:
    """The same, with members that are Local channels."""
    await _ring_group(rig, "4930600121")


@scenario(taken("101", EMMA, CHRIS, ZOE, to="4930600122"))
async def in_ring_group_local_n(rig: Rig) -> None:
    """The same, with Local channels that stay (``/n``)."""
    await _ring_group(rig, "4930600122")


async def _refused_by_all(rig: Rig, did: str, statuses: tuple[int, int, int]) -> Call:
    caller = rig.dial_in(did)
    calls = await rig.ringing("100", "101", "102")
    for call, status in zip(calls, statuses, strict=True):
        call.decline(status)
    return caller


@scenario(missed("busy", EMMA, CHRIS, ZOE, to="4930600120"))
async def in_ring_group_busy_declined_offline(rig: Rig) -> int:
    """One is busy, one declines, one is offline: the call failed because one was busy."""
    return await (await _refused_by_all(rig, "4930600120", (404, 486, 603))).final()


@scenario(missed("noAnswer", EMMA, CHRIS, ZOE, to="4930600120"))
async def in_ring_group_declined_offline(rig: Rig) -> int:
    """One declines, two are offline: somebody was there but did not answer."""
    return await (await _refused_by_all(rig, "4930600120", (404, 603, 404))).final()


@scenario(missed("cancel", EMMA, CHRIS, ZOE, to="4930600120"))
async def in_ring_group_cancel(rig: Rig) -> None:
    """One is busy, two ring on; the caller gives up."""
    caller = rig.dial_in("4930600120")
    emma, chris, zoe = await rig.ringing("100", "101", "102")
    emma.decline(486)
    await rig.ami.event("Hangup", Channel="PJSIP/100-*")
    await caller.cancel()
    await chris.ended()
    await zoe.ended()


@scenario(missed("busy", EMMA, CHRIS, ZOE, to="4930600170"))
async def in_all_busy_announcement(rig: Rig) -> None:
    """All are busy; Asterisk answers and says so, and the caller hangs up during that."""
    caller = await _refused_by_all(rig, "4930600170", (486, 486, 486))
    await caller.answered()
    await rig.application("Playback")
    await rig.talk()
    await caller.bye()


@scenario(missed("busy", EMMA, CHRIS, ZOE, to="4930600171"))
async def in_all_busy_tone(rig: Rig) -> int:
    """All are busy; the dialplan plays the busy tone (a SIP trunk gets 486 for it)."""
    return await (await _refused_by_all(rig, "4930600171", (486, 486, 486))).final()


async def _follow_me(rig: Rig, did: str) -> None:
    caller = rig.dial_in(did)
    emma, chris = await rig.ringing("100", "101")
    await rig.talk(0.2)
    chris.answer()
    await caller.answered()
    await rig.in_bridge("PJSIP/101")
    await emma.ended()
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, to="4930600123"))
async def in_follow_me_local(rig: Rig) -> None:
    """Follow-me over Local channels to 100 and 101; 101 answers; Asterisk optimises the Local channels away."""
    await _follow_me(rig, "4930600123")


@scenario(taken("101", EMMA, CHRIS, to="4930600124"))
async def in_follow_me_local_n(rig: Rig) -> None:
    """The same, with Local channels that stay (``/n``, as FreePBX does)."""
    await _follow_me(rig, "4930600124")


@scenario(taken("101", to="4930600125"))
async def in_follow_me_application(rig: Rig) -> None:
    """Asterisk's own FollowMe(), which answers the caller first and asks the agent to press 1."""
    caller = rig.dial_in("4930600125")
    emma, chris = await rig.ringing("100", "101")
    await caller.answered()
    await rig.talk()
    chris.answer()
    await rig.talk(3)  # hear the question: what is pressed before it is lost
    await chris.dtmf("1")
    await rig.in_bridge("PJSIP/trunk")  # with the Local channel's other half
    await emma.ended()
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("101", to="4930600126"))
async def in_hunt_group(rig: Rig) -> None:
    """100 rings out, then 101 is called and answers."""
    caller = rig.dial_in("4930600126")
    (emma,) = await rig.ringing("100")
    await emma.ended()
    (chris,) = await rig.ringing("101")
    chris.answer()
    await caller.answered()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


# --- In, queues ---------------------------------------------------------------------------------------


async def _queue_answered_by_101(rig: Rig, did: str) -> tuple[Call, Call]:
    caller = rig.dial_in(did)
    emma, chris = await rig.ringing("100", "101")
    await rig.talk(0.2)
    chris.answer()
    await rig.ami.event("AgentConnect")
    await rig.in_bridge("PJSIP/101")
    await caller.answered()
    await emma.ended()
    await rig.talk()
    return caller, chris


@scenario(taken("101", EMMA, CHRIS, queue="support", to="4930600130"))
async def in_queue_answer(rig: Rig) -> None:
    """The queue `support` rings 100 and 101; 101 answers."""
    caller, chris = await _queue_answered_by_101(rig, "4930600130")
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, queue="support", to="4930600130"))
async def in_queue_answer_agent_hangs_up(rig: Rig) -> None:
    """The same, and the agent hangs up."""
    caller, chris = await _queue_answered_by_101(rig, "4930600130")
    await chris.bye()
    await caller.ended()


@scenario(taken("101", EMMA, CHRIS, queue="support", to="4930600135"))
async def in_queue_not_answered_first(rig: Rig) -> None:
    """The dialplan does not answer before the queue: the caller hears it ring."""
    caller, chris = await _queue_answered_by_101(rig, "4930600135")
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, queue="support-local", to="4930600133"))
async def in_queue_local_members(rig: Rig) -> None:
    """The queue's members are Local channels, as FreePBX makes them."""
    caller, chris = await _queue_answered_by_101(rig, "4930600133")
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, queue="support", to="4930600130"))
async def in_queue_declined_then_answer(rig: Rig) -> None:
    """100 declines the queue's call, 101 answers."""
    caller = rig.dial_in("4930600130")
    emma, chris = await rig.ringing("100", "101")
    emma.decline(603)
    await rig.ami.event("Hangup", Channel="PJSIP/100-*")
    chris.answer()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA, CHRIS, queue="rounds", to="4930600134"))
async def in_queue_second_round(rig: Rig) -> None:
    """Nobody answers in time, the queue tries again, and 101 answers then."""
    caller = rig.dial_in("4930600134")
    for call in await rig.ringing("100", "101"):
        await call.ended()
    _, chris = await rig.ringing("100", "101")
    chris.answer()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(missed("cancel", EMMA, CHRIS, queue="support", to="4930600130"))
async def in_queue_cancel(rig: Rig) -> None:
    """The caller gives up in the queue (that Asterisk answered, so it is a BYE)."""
    caller = rig.dial_in("4930600130")
    calls = await rig.ringing("100", "101")
    await caller.answered()
    await caller.bye()
    for call in calls:
        await call.ended()


@scenario(missed("noAnswer", EMMA, CHRIS, queue="support", to="4930600131"))
async def in_queue_times_out(rig: Rig) -> None:
    """Nobody takes the call, the queue gives up, the dialplan ends."""
    caller = rig.dial_in("4930600131")
    for call in await rig.ringing("100", "101"):
        await call.ended()
    await caller.ended()


@scenario(
    missed("forwarded", EMMA, CHRIS, queue="support", to="4930600132"),
    Entry(
        direction="in",
        from_number=CALLER,
        users=(ZOE,),
        queue="sales",
        answered=True,
        answered_by=ZOE,
        answering_number="102",
        cause="normalClearing",
    ),
)
async def in_queue_then_queue(rig: Rig) -> None:
    """The queue `support` times out, 102 takes the call in the queue `sales`."""
    caller = rig.dial_in("4930600132")
    for call in await rig.ringing("100", "101"):
        await call.ended()
    (zoe,) = await rig.ringing("102")
    zoe.answer()
    await rig.ami.event("AgentConnect")
    await rig.together("PJSIP/trunk", "PJSIP/102")
    await rig.talk()
    await caller.bye()
    await zoe.ended()


# --- In, voicemail and menus --------------------------------------------------------------------------


def _to_voicemail(to: str, *users: str) -> Entry:
    return Entry(
        direction="in",
        from_number=CALLER,
        to_number=to,
        users=users or None,
        answered=True,
        answered_by="voicemail",
        cause="normalClearing",
    )


@scenario(_to_voicemail("4930600140", EMMA), voicemail=True)
async def in_voicemail(rig: Rig) -> None:
    """100 rings out, the voicemail takes the call."""
    caller = rig.dial_in("4930600140")
    (emma,) = await rig.ringing("100")
    await emma.ended()
    await rig.application("VoiceMail")
    await caller.answered()
    await rig.talk(VOICEMAIL_STAY)
    await caller.bye()


@scenario(_to_voicemail("4930600141"), voicemail=True)
async def in_voicemail_at_once(rig: Rig) -> None:
    """The voicemail takes the call without any phone ringing."""
    caller = rig.dial_in("4930600141")
    await rig.application("VoiceMail")
    await caller.answered()
    await rig.talk(VOICEMAIL_STAY)
    await caller.bye()


async def _menu(rig: Rig, choice: str) -> Call:
    caller = rig.dial_in("4930600150")
    await rig.application("BackGround")
    await caller.answered()
    await rig.talk()
    await caller.dtmf(choice)
    return caller


@scenario(taken("101", CHRIS, to="4930600150"))
async def in_menu_answer(rig: Rig) -> None:
    """A menu answers, the caller chooses 1, and 101 answers."""
    caller = await _menu(rig, "1")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(missed("cancel", to="4930600150"))
async def in_menu_hangs_up(rig: Rig) -> None:
    """The caller hangs up in the menu."""
    caller = rig.dial_in("4930600150")
    await rig.application("BackGround")
    await caller.answered()
    await rig.talk()
    await caller.bye()


@scenario(missed("cancel", CHRIS, to="4930600150"))
async def in_menu_cancel(rig: Rig) -> None:
    """The caller chooses 1 in the menu, 101 rings, and the caller gives up."""
    caller = await _menu(rig, "1")
    (chris,) = await rig.ringing("101")
    await caller.bye()
    await chris.ended()


@scenario(_to_voicemail("4930600150"), voicemail=True)
async def in_menu_voicemail(rig: Rig) -> None:
    """The caller chooses the voicemail in the menu."""
    caller = await _menu(rig, "2")
    await rig.application("VoiceMail")
    await rig.talk(VOICEMAIL_STAY)
    await caller.bye()


# --- In, taken by another phone or passed on ----------------------------------------------------------


@scenario(taken("101", EMMA, CHRIS))
async def in_redirect_302(rig: Rig) -> None:
    """100's phone redirects to 101 (302), who answers."""
    caller = rig.dial_in()
    (await rig.phones["100"].incoming()).redirect("101")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await caller.answered()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


async def _pick_up(rig: Rig, code: str) -> None:
    caller = rig.dial_in()
    (emma,) = await rig.ringing("100")
    chris = rig.phones["101"].call(code)
    await chris.answered()
    await caller.answered()
    await emma.ended()
    await rig.ami.event("Pickup")
    await rig.in_bridge("PJSIP/trunk")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("101", EMMA))
async def in_pickup_group(rig: Rig) -> None:
    """100 rings, 101 picks up with *8."""
    await _pick_up(rig, "*8")


@scenario(taken("101", EMMA))
async def in_pickup_directed(rig: Rig) -> None:
    """100 rings, 101 picks up 100's call in particular (an extension of the dialplan)."""
    await _pick_up(rig, "**100")


@scenario(
    Entry(
        direction="in",
        from_number=CALLER,
        to_number="4930600160",
        answered=True,
        answering_number=MOBILE,
        cause="normalClearing",
    )
)
async def in_passed_straight_on(rig: Rig) -> None:
    """The number is passed straight on to a mobile phone, which answers."""
    caller = rig.dial_in("4930600160")
    mobile = await rig.trunk.ringing()
    await caller.progress()
    mobile.answer()
    await caller.answered()
    await rig.in_bridge("PJSIP/trunk", count=2)
    await rig.talk()
    await caller.bye()
    await mobile.ended()


@scenario(missed("busy", to="4930600160", queue=None))
async def in_passed_straight_on_busy(rig: Rig) -> int:
    """The same, but the mobile phone is busy."""
    caller = rig.dial_in("4930600160")
    (await rig.trunk.incoming()).decline(486)
    return await caller.final()


# --- In, transferred by the agent ---------------------------------------------------------------------

FORWARDED = taken("100", EMMA, cause="forwarded")


def then(number: str, to: str | None = None, cause: str = "normalClearing") -> Entry:
    """Return the entry of the agent who got the call from another agent."""
    return taken(number, PHONES[number], to=to, queue=None, cause=cause)


async def _take(rig: Rig, number: str, caller: Call) -> Call:
    """Let *number* ring and answer, and wait until it talks with the caller."""
    (call,) = await rig.ringing(number)
    call.answer()
    await rig.together("PJSIP/trunk", f"PJSIP/{number}")
    await rig.talk()
    assert not caller.over
    return call


@scenario(FORWARDED, then("101", to="101"))
async def in_blind_transfer(rig: Rig) -> None:
    """100 answers and transfers to 101 without asking (REFER); 101 answers."""
    caller, emma = await answered_by_100(rig)
    await emma.refer("101")
    chris = await _take(rig, "101", caller)
    assert await emma.transferred() == 200
    await caller.bye()
    await chris.ended()


@scenario(FORWARDED, then("101", to="101"))
async def in_blind_transfer_feature(rig: Rig) -> None:
    """The same with Asterisk's feature code (*1, then the number)."""
    caller, emma = await answered_by_100(rig)
    await emma.dtmf("*1")
    await rig.ami.event("MusicOnHoldStart", Channel="PJSIP/trunk-*")
    await emma.dtmf("101")
    chris = await _take(rig, "101", caller)
    await emma.ended()
    await chris.bye()
    await caller.ended()


@scenario(taken("100", EMMA, cause="forwarded"), then("101", cause="forwarded"), then("102", to="102"))
async def in_blind_transfer_twice(rig: Rig) -> None:
    """100 transfers to 101, who transfers to 102."""
    caller, emma = await answered_by_100(rig)
    await emma.refer("101")
    chris = await _take(rig, "101", caller)
    assert await emma.transferred() == 200
    await chris.refer("102")
    zoe = await _take(rig, "102", caller)
    assert await chris.transferred() == 200
    await caller.bye()
    await zoe.ended()


@scenario(
    taken("101", EMMA, CHRIS, queue="support", to="4930600130", cause="forwarded"),
    then("102", to="102"),
)
async def in_queue_blind_transfer(rig: Rig) -> None:
    """101 takes a call of the queue and transfers it to 102."""
    caller, chris = await _queue_answered_by_101(rig, "4930600130")
    await chris.refer("102")
    zoe = await _take(rig, "102", caller)
    assert await chris.transferred() == 200
    await caller.bye()
    await zoe.ended()


@scenario(taken("100", EMMA))
async def in_blind_transfer_busy(rig: Rig) -> None:
    """100 transfers to 101, who is busy: that is the end of the call."""
    caller, emma = await answered_by_100(rig)
    await emma.refer("101")
    (await rig.phones["101"].incoming()).decline(486)
    assert await emma.transferred() >= 300
    await emma.bye()
    await caller.ended()


@scenario(taken("100", EMMA))
async def in_blind_transfer_busy_returns(rig: Rig) -> None:
    """100 transfers to 101, who is busy; the dialplan gives the call back to 100, who takes it again."""
    caller, emma = await answered_by_100(rig)
    await emma.refer("201")
    (await rig.phones["101"].incoming()).decline(486)
    again = await rig.phones["100"].ringing()
    again.answer()
    await rig.in_bridge("PJSIP/100", count=2)
    await emma.transferred()
    await emma.bye()
    emma = again
    await rig.talk()
    await caller.bye()
    await emma.ended()


@scenario(taken("100", EMMA))
async def in_blind_transfer_no_such_extension(rig: Rig) -> int:
    """100 transfers to a number that does not exist: Asterisk refuses, the call goes on."""
    caller, emma = await answered_by_100(rig)
    await emma.refer("999")
    status = await emma.transferred()
    await rig.talk()
    assert not caller.over
    await caller.bye()
    await emma.ended()
    return status


@scenario(
    FORWARDED,
    Entry(
        direction=None,
        from_number=CALLER,
        answered=True,
        cause="normalClearing",
    ),
)
async def in_blind_transfer_outside(rig: Rig) -> None:
    """100 transfers the caller to a number outside."""
    caller, emma = await answered_by_100(rig)
    await emma.refer(f"0{OUTSIDE}")
    outside = await rig.trunk.ringing()
    await rig.talk()
    outside.answer()
    await rig.in_bridge("PJSIP/trunk", count=3)
    await emma.transferred()
    await rig.talk()
    await caller.bye()
    await outside.ended()


async def _consult(rig: Rig, emma: Call) -> tuple[Call, Call]:
    """Let 100 put the caller on hold and call 101, who answers."""
    await emma.hold()
    consultation = rig.phones["100"].call("101")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await consultation.answered()
    await rig.together("PJSIP/100", "PJSIP/101")
    await rig.talk()
    return consultation, chris


@scenario(FORWARDED, then("101"))
async def in_attended_transfer(rig: Rig) -> None:
    """100 calls 101 on a second line and connects the two (REFER with Replaces)."""
    caller, emma = await answered_by_100(rig)
    consultation, chris = await _consult(rig, emma)
    await emma.refer("101", replaces=consultation)
    await rig.together("PJSIP/trunk", "PJSIP/101")
    assert await emma.transferred() == 200
    await consultation.bye()
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(FORWARDED, then("101"))
async def in_attended_transfer_while_ringing(rig: Rig) -> None:
    """100 calls 101 on a second line and connects the two while 101 still rings; 101 answers then."""
    caller, emma = await answered_by_100(rig)
    await emma.hold()
    consultation = rig.phones["100"].call("101")
    (chris,) = await rig.ringing("101")
    await consultation.progress()
    await rig.talk()
    await emma.refer("101", replaces=consultation)
    assert await emma.transferred() == 200
    await consultation.cancel()
    await rig.talk()
    chris.answer()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("100", EMMA))
async def in_attended_transfer_given_up(rig: Rig) -> None:
    """100 asks 101 on a second line, who does not want the call; 100 goes on with the caller."""
    caller, emma = await answered_by_100(rig)
    consultation, chris = await _consult(rig, emma)
    await consultation.bye()
    await chris.ended()
    await emma.resume()
    await rig.talk()
    await caller.bye()
    await emma.ended()


async def _consult_by_feature(rig: Rig, emma: Call) -> Call:
    await emma.dtmf("*2")
    await rig.ami.event("MusicOnHoldStart", Channel="PJSIP/trunk-*")
    await emma.dtmf("101")
    (chris,) = await rig.ringing("101")
    return chris


@scenario(FORWARDED, then("101"))
async def in_attended_transfer_feature(rig: Rig) -> None:
    """100 connects to 101 with Asterisk's feature code (*2), and hangs up to complete the transfer."""
    caller, emma = await answered_by_100(rig)
    chris = await _consult_by_feature(rig, emma)
    chris.answer()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await emma.bye()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(FORWARDED, then("101"))
async def in_attended_transfer_action(rig: Rig) -> None:
    """The same, begun by a program (AMI action Atxfer)."""
    caller, emma = await answered_by_100(rig)
    agent = next(name for name in rig.ami.channels.values() if name.startswith("PJSIP/100-"))
    await rig.ami.action("Atxfer", Channel=agent, Exten="101", Context="from-internal")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await rig.in_bridge("PJSIP/101")
    await rig.talk()
    await emma.bye()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(FORWARDED, then("101"))
async def in_attended_transfer_feature_while_ringing(rig: Rig) -> None:
    """With the feature code again, but 100 hangs up while 101 still rings; 101 answers then."""
    caller, emma = await answered_by_100(rig)
    chris = await _consult_by_feature(rig, emma)
    await rig.in_bridge("PJSIP/100", count=2)  # with one half of a Local channel to 101
    await emma.bye()
    await rig.ami.event("BridgeLeave", Channel="PJSIP/100-*", count=2)  # its Hangup comes much later
    await rig.talk()
    chris.answer()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("100", EMMA))
async def in_attended_transfer_feature_declined(rig: Rig) -> None:
    """With the feature code, but 101 declines: Asterisk brings 100 and the caller together again."""
    caller, emma = await answered_by_100(rig)
    chris = await _consult_by_feature(rig, emma)
    chris.decline(603)
    await rig.in_bridge("PJSIP/100", count=2)
    await rig.together("PJSIP/trunk", "PJSIP/100")
    await rig.talk()
    await caller.bye()
    await emma.ended()


# --- In, parked ---------------------------------------------------------------------------------------


async def _park(rig: Rig, lot: str = "700") -> Call:
    caller, emma = await answered_by_100(rig)
    await emma.refer(lot)
    await rig.ami.event("ParkedCall")
    await emma.bye()  # Asterisk 16 would confirm only after telling the agent the number of the place
    await rig.talk()
    return caller


@scenario(FORWARDED, then("101"))
async def in_parked_retrieved_by_other(rig: Rig) -> None:
    """100 parks the caller, 101 retrieves the call."""
    caller = await _park(rig)
    chris = rig.phones["101"].call("701")
    await chris.answered()
    await rig.together("PJSIP/trunk", "PJSIP/101")
    await rig.talk()
    await caller.bye()
    await chris.ended()


@scenario(taken("100", EMMA))
async def in_parked_retrieved_by_same(rig: Rig) -> None:
    """100 parks the caller and retrieves the call itself."""
    caller = await _park(rig)
    emma = rig.phones["100"].call("701")
    await emma.answered()
    await rig.together("PJSIP/trunk", "PJSIP/100")
    await rig.talk()
    await caller.bye()
    await emma.ended()


@scenario(taken("100", EMMA))
async def in_parked_hangs_up(rig: Rig) -> None:
    """100 parks the caller, who hangs up while parked."""
    caller = await _park(rig)
    await caller.bye()


@scenario(taken("100", EMMA))
async def in_parked_comes_back(rig: Rig) -> None:
    """100 parks the caller, nobody retrieves the call, and it rings at 100 again, who answers."""
    caller = await _park(rig, "740")
    emma = await rig.phones["100"].ringing()
    emma.answer()
    await rig.together("PJSIP/trunk", "PJSIP/100")
    await rig.talk()
    await caller.bye()
    await emma.ended()


# --- Out ----------------------------------------------------------------------------------------------


async def _dial_out(rig: Rig, *, ring: int = 180) -> tuple[Call, Call]:
    """Let 100 call outside; returns its call and the far side's, which rings."""
    emma = rig.phones["100"].call(f"0{OUTSIDE}")
    outside = await rig.trunk.incoming()
    assert outside.to_user == OUTSIDE
    if ring:
        outside.ring(ring)
        await emma.progress(ring)
    return emma, outside


async def _answer_outside(rig: Rig, emma: Call, outside: Call) -> None:
    outside.answer()
    await emma.answered()
    await rig.together("PJSIP/100", "PJSIP/trunk")
    await rig.talk()


@scenario(dialled("normalClearing", answered=True))
async def out_answer(rig: Rig) -> None:
    """100 calls outside through the line prefix 0; the far side answers, 100 hangs up."""
    emma, outside = await _dial_out(rig)
    await _answer_outside(rig, emma, outside)
    await emma.bye()
    await outside.ended()


@scenario(dialled("normalClearing", answered=True))
async def out_answer_callee_hangs_up(rig: Rig) -> None:
    """The same, and the far side hangs up."""
    emma, outside = await _dial_out(rig)
    await _answer_outside(rig, emma, outside)
    await outside.bye()
    await emma.ended()


@scenario(dialled("busy", answered=False))
async def out_busy(rig: Rig) -> int:
    """The far side is busy."""
    emma, outside = await _dial_out(rig, ring=0)
    outside.decline(486)
    return await emma.final()


@scenario(dialled("cancel", answered=False))
async def out_cancel(rig: Rig) -> None:
    """100 gives up while it rings."""
    emma, outside = await _dial_out(rig)
    await emma.cancel()
    await outside.ended()


@scenario(dialled("noAnswer", answered=False))
async def out_declined(rig: Rig) -> int:
    """The far side declines (603)."""
    emma, outside = await _dial_out(rig)
    outside.decline(603)
    return await emma.final()


@scenario(dialled(None, answered=False))
async def out_no_answer(rig: Rig) -> int:
    """The provider gives up because nobody answers (480)."""
    emma, outside = await _dial_out(rig)
    outside.decline(480)
    return await emma.final()


@scenario(dialled("notFound", answered=False))
async def out_no_such_number(rig: Rig) -> int:
    """There is no such number (404), which the provider announces first (183)."""
    emma, outside = await _dial_out(rig, ring=183)
    outside.decline(404)
    return await emma.final()


@scenario(dialled("congestion", answered=False))
async def out_no_circuit(rig: Rig) -> int:
    """The trunk has no free line (503)."""
    emma, outside = await _dial_out(rig, ring=0)
    outside.decline(503)
    return await emma.final()


@scenario(
    Entry(
        direction="out",
        from_number="100",
        to_number=OUTSIDE,
        users=(EMMA,),
        answered=True,
        answered_by="",
        cause="forwarded",
    ),
    Entry(direction=None, answered=True, cause="normalClearing"),
)
async def out_blind_transfer(rig: Rig) -> None:
    """100 calls outside and then transfers the far side to 101."""
    emma, outside = await _dial_out(rig)
    await _answer_outside(rig, emma, outside)
    await emma.refer("101")
    chris = await _take(rig, "101", outside)
    assert await emma.transferred() == 200
    await outside.bye()
    await chris.ended()


async def _click_to_dial(rig: Rig, channel: str) -> None:
    await rig.ami.action(
        "Originate",
        Channel=channel,
        Context="from-internal",
        Exten=f"0{OUTSIDE}",
        Priority="1",
        CallerID="Emma Taylor <100>",
        Async="true",
    )
    (emma,) = await rig.ringing("100")
    await rig.talk(0.2)
    emma.answer()
    outside = await rig.trunk.ringing()
    await rig.ami.event("Newstate", Channel="PJSIP/trunk-*", ChannelStateDesc="Ringing")
    await rig.talk(0.2)
    outside.answer()
    await rig.in_bridge("PJSIP/trunk")
    await rig.talk()
    await emma.bye()
    await outside.ended()


@scenario(dialled("normalClearing", answered=True))
async def out_click_to_dial(rig: Rig) -> None:
    """A program calls 100 (Originate), and then the number outside."""
    await _click_to_dial(rig, "PJSIP/100")


@scenario(dialled("normalClearing", answered=True))
async def out_click_to_dial_local(rig: Rig) -> None:
    """The same through a Local channel, as many CTI programs do."""
    await _click_to_dial(rig, "Local/100@from-internal")


# --- Internal -----------------------------------------------------------------------------------------


@scenario()
async def internal_answer(rig: Rig) -> None:
    """100 calls 101."""
    emma = rig.phones["100"].call("101")
    (chris,) = await rig.ringing("101")
    chris.answer()
    await emma.answered()
    await rig.together("PJSIP/100", "PJSIP/101")
    await rig.talk()
    await emma.bye()
    await chris.ended()


@scenario()
async def internal_cancel(rig: Rig) -> None:
    """100 calls 101 and gives up."""
    emma = rig.phones["100"].call("101")
    (chris,) = await rig.ringing("101")
    await emma.progress()
    await emma.cancel()
    await chris.ended()
