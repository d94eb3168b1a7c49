"""Asking first: what a dialplan that runs `AGI(agi://…/screen)` gets to hear."""

from __future__ import annotations

from ami2zammad.asterisk.fastagi import AgiRequest
from ami2zammad.calls.decisions import Dial, Reject

from .control import BUSY, CallControl, Status, Verdict

_SCRIPT = "screen"


class Screening:
    """Answers the dialplan's requests. `caller_name` is shown with an overridden caller ID; empty: no name."""

    def __init__(self, control: CallControl, caller_name: str) -> None:
        self._control = control
        self._caller_name = caller_name

    async def answer(self, request: AgiRequest) -> None:
        """Ask about the request's call, tell the dialplan what was decided, and do it.

        Channel variables: ZAMMAD_STATUS, ZAMMAD_ACTION (none, reject, dial), ZAMMAD_CALLER_ID, ZAMMAD_NUMBER (where it
        differs from what was dialled).
        """
        if request.script != _SCRIPT:
            await self._tell(request, Verdict(Status.UNKNOWN))
            return
        query = request.query
        verdict = await self._control.screen(
            request.uniqueid,
            number=request.extension,
            queue=query.get("queue", ""),
            user=query.get("user", ""),
            to=query.get("to", ""),
        )
        await self._tell(request, verdict)
        match verdict.decision:
            case Reject():
                await request.execute("Hangup", str(BUSY))
            case Dial() as dial:
                await request.set_variable("CALLERID(num)", dial.caller_id)
                await request.set_variable("CALLERID(name)", self._caller_name)

    async def _tell(self, request: AgiRequest, verdict: Verdict) -> None:
        decision = verdict.decision
        action = {Reject: "reject", Dial: "dial"}.get(type(decision), "none")
        await request.set_variable("ZAMMAD_STATUS", verdict.status.value)
        await request.set_variable("ZAMMAD_ACTION", action)
        if isinstance(decision, Dial):
            await request.set_variable("ZAMMAD_CALLER_ID", decision.caller_id)
            if decision.number.removeprefix("+") != verdict.dialled:
                await request.set_variable("ZAMMAD_NUMBER", decision.number)
