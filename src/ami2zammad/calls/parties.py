"""Who is on a channel, and which numbers stand for them (rule 5 of docs/calls.md)."""

from __future__ import annotations

from dataclasses import dataclass

from .call import Call, Channel
from .directory import Agent, Directory
from .events import Direction
from .numbers import NumberPlan, is_diallable
from .sides import Side
from .signalling import DialBegan


@dataclass(frozen=True, slots=True)
class Talker:
    """Somebody whom the party may talk with: `identity` tells two of them apart, the rest is for Zammad."""

    identity: str
    name: str
    answering_number: str
    from_number: str
    """The number that an agent's outbound call comes from."""


class Parties:
    """Names parties by the number plan and the directory of agents."""

    def __init__(self, numbers: NumberPlan, directory: Directory) -> None:
        self._numbers = numbers
        self._directory = directory

    def number_dialled(self, signal: DialBegan, caller: Channel | None) -> str:
        """Return the outside number that a dial is for, the line prefix removed.

        What the agent dialled is the best source: where the dialling channel stands or, in a macro or a subroutine
        (`s`), where it began. But what the trunk is given is better where it is the end of that (a line prefix that is
        not configured) and where an extension stands for an outside number. A caller from outside stands at the DID,
        which is not what is dialled.
        """
        # `492214710334@trunk`, `trunk/492214710334`, `PJSIP/492214710334@trunk`, `trunk/sip:492214710334@host:5060`.
        given = signal.dial_string.rpartition("/")[2].partition("@")[0].rpartition(":")[2]
        by_trunk = self._numbers.party(given)
        known = self._numbers.is_known(given)
        if caller is None or caller.side is not Side.OUTSIDE:
            for candidate in (signal.exten, caller.exten if caller is not None else ""):
                if not is_diallable(candidate):
                    continue
                if known and (candidate.endswith(given) or not self._numbers.is_known(candidate)):
                    return by_trunk
                return self._numbers.dialled(candidate)
        return by_trunk

    def outbound_number(self, agent: Agent, shown: str) -> str:
        """Return where an outbound call comes from: the agent's own number, else what is shown, else the extension."""
        numbers = self._numbers
        if agent.number:
            return numbers.party(agent.number)
        if agent.extension and (shown == agent.extension or not is_diallable(shown)):
            return agent.extension
        return numbers.party(shown)

    def talker(self, call: Call, device: Channel) -> Talker:
        """Return who is on `device`, as somebody whom the party of `call` talks with."""
        if device.side is Side.OUTSIDE:
            number = device.number or self._numbers.party(device.caller_number)
            return Talker(number, "", number, "")
        agent = self.agent_at(device)
        from_number = self.outbound_number(agent, "") if call.direction is Direction.OUT else ""
        return Talker(agent.extension, self.name_of(device), agent.answering_number or agent.extension, from_number)

    def agent_at(self, device: Channel) -> Agent:
        """Return the agent who uses `device`."""
        name = device.caller_name if device.caller_name != "<unknown>" else ""
        return self._directory.agent_at(device.endpoint, device.caller_number, name)

    def name_of(self, device: Channel) -> str:
        """Return what to call the agent on `device`: a configured name, the PBX's, the queue's, or the extension."""
        agent = self.agent_at(device)
        return agent.name or device.member_name or agent.extension
