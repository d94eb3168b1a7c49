"""One log entry: newCall, answer, hangup, each at most once and in this order, whatever happens around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import causes
from .events import Answer, CallEvent, Cause, Direction, Hangup, NewCall

# A ring group of more than this is a loop in the dialplan; Zammad shows 250 characters of names anyway.
_MOST_USERS: Final = 64


@dataclass(slots=True, eq=False)
class LogEntry:
    """What becomes one row of Zammad's caller log.

    Answering or ending an entry announces it first where that has not happened yet; an ended entry says nothing
    any more. So no order of calls to this class gives a sequence that Zammad would refuse.
    """

    call_id: str
    first_call_id: str
    direction: Direction
    from_number: str
    to_number: str
    users: list[str] = field(default_factory=list)
    queue: str = ""
    announce_at: float | None = None
    """When the settle time is over (clock of the signals); None: not known yet whom the call is for."""
    caller_gave_up: bool = False
    outcome: Cause | None = None
    """The best outcome of the devices and queues tried so far."""
    tried: bool = False
    """A device or a queue has been tried."""
    refused: bool = False
    """The help desk wants the caller rejected, and the PBX was told."""
    talker: str = ""
    """The identity of the party who took the call."""
    ended: bool = False
    _new_call: NewCall | None = None
    _answer: Answer | None = None

    @property
    def announced(self) -> bool:
        """NewCall has been said."""
        return self._new_call is not None

    @property
    def new_call(self) -> NewCall | None:
        """What was announced, None before."""
        return self._new_call

    @property
    def answered(self) -> bool:
        """Answer has been said."""
        return self._answer is not None

    @property
    def answer_event(self) -> Answer | None:
        """What was said when somebody took the call, None before."""
        return self._answer

    def resume(self, new_call: NewCall, answer: Answer | None, *, talker: str, ended: bool) -> None:
        """Go on where another process stopped: all this was said before."""
        self._new_call = new_call
        self._answer = answer
        self.talker = talker
        self.ended = ended

    def add_user(self, name: str) -> None:
        """Add the name of an agent who rings; of no use once the entry is announced."""
        if name and name not in self.users and len(self.users) < _MOST_USERS and not self.announced:
            self.users.append(name)

    def add_outcome(self, outcome: Cause) -> None:
        """Count the fate of a device or of a queue."""
        self.outcome = causes.better(self.outcome, outcome)

    def announce(self, at: float) -> list[CallEvent]:
        """Say newCall, unless it has been said."""
        self.announce_at = None
        if self.ended or self.announced:
            return []
        return [self._announced(at)]

    def answer(self, at: float, talker: str, user: str, answering_number: str) -> list[CallEvent]:
        """Say answer (and newCall before it), unless it has been said. `talker` identifies who took the call."""
        if self.ended or self.answered:
            return []
        events = self.announce(at)
        self.talker = talker
        self._answer = Answer(at, self._announced(at), user, answering_number)
        return [*events, self._answer]

    def hang_up(self, at: float, cause: Cause) -> list[CallEvent]:
        """Say hangup (and newCall before it), unless it has been said."""
        if self.ended:
            return []
        events = self.announce(at)
        self.ended = True
        answering_number = self._answer.answering_number if self._answer else ""
        return [*events, Hangup(at, self._announced(at), cause, answering_number)]

    def _announced(self, at: float) -> NewCall:
        if self._new_call is None:
            self._new_call = NewCall(
                at=at,
                call_id=self.call_id,
                direction=self.direction,
                from_number=self.from_number,
                to_number=self.to_number,
                users=tuple(self.users),
                queue=self.queue,
                first_call_id=self.first_call_id,
            )
        return self._new_call
