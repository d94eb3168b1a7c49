"""Events and stand-ins that the tests of the Zammad side share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ami2zammad.calls.events import Answer, CallEvent, Cause, Direction, Hangup, NewCall
from ami2zammad.zammad.payloads import Fields
from ami2zammad.zammad.replies import Answered, Outcome, Trouble, Unanswered

TOKEN = "V3rySecretT0ken"
URL = f"https://zammad.example.com/api/v1/cti/{TOKEN}"


def new_call(call_id: str = "1.1", **changes: Any) -> NewCall:
    values: dict[str, Any] = {
        "at": 0.0,
        "call_id": call_id,
        "direction": Direction.IN,
        "from_number": "4917699999999",
        "to_number": "4930600100",
        "users": ("Emma Taylor",),
    }
    return NewCall(**(values | changes))


def answer(call: NewCall | None = None, user: str = "Emma Taylor", number: str = "100") -> Answer:
    return Answer(1.0, call or new_call(), user, number)


def hangup(call: NewCall | None = None, cause: Cause = Cause.NORMAL_CLEARING, number: str = "100") -> Hangup:
    return Hangup(2.0, call or new_call(), cause, number)


def entry(call_id: str = "1.1", **changes: Any) -> list[CallEvent]:
    call = new_call(call_id, **changes)
    return [call, answer(call), hangup(call)]


def reply(status: int, body: object = None, **more: Any) -> Answered:
    text = body if isinstance(body, str) else json.dumps({} if body is None else body)
    kind = "text/html" if text.startswith("<") else "application/json"
    return Answered(status, kind, text, **more)


OK = reply(200)
EXISTS = reply(500, {"error": "This object already exists."})
INNER = reply(500, {"error": "Error ID 0badcafe: Please contact your administrator."})
GATEWAY = reply(502, "<html><title>502 Bad Gateway</title></html>")
UNAUTHORIZED = reply(401, {"error": "Invalid token, ask."})
DOWN = Unanswered(Trouble.REFUSED)

Script = Callable[[Fields], Outcome]


class Scripted:
    """A transport that answers from a list, then 200 for ever; or as a function of the fields says."""

    def __init__(self, outcomes: Iterable[Outcome] | Script = ()) -> None:
        self.sent: list[Fields] = []
        self._script = outcomes if callable(outcomes) else None
        self._outcomes = iter(()) if callable(outcomes) else iter(outcomes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def post(self, fields: Fields) -> Outcome:
        self.sent.append(fields)
        await asyncio.sleep(0)
        if self._script is not None:
            return self._script(fields)
        return next(self._outcomes, OK)

    @property
    def events(self) -> list[object]:
        return [fields["event"] for fields in self.sent]


class Sleeps:
    """A sleep that takes no time and remembers how long it should have been."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        if seconds:
            self.asked.append(seconds)
        await asyncio.sleep(0)
