"""Who is who: the agents that the configuration names, found by the device that they use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of the help desk.

    `answering_number` is what stands in the phone field of the agent in Zammad; `number` is the
    agent's own outside number. Both may be empty.
    """

    extension: str
    name: str = ""
    answering_number: str = ""
    number: str = ""


class Directory:
    """Finds agents by extension."""

    def __init__(self, agents: Iterable[Agent] = ()) -> None:
        self._by_extension = {agent.extension: agent for agent in agents}

    @property
    def extensions(self) -> frozenset[str]:
        """All extensions that the configuration names."""
        return frozenset(self._by_extension)

    def agent_at(self, endpoint: str, caller_number: str, caller_name: str) -> Agent:
        """Return the agent who uses a device.

        `endpoint` is the channel's name without technology and suffix (`100` of `PJSIP/100-0000001a`), the other
        two are what the PBX knows of the device. A device that the configuration does not name gets an agent
        made of that: people should see names before anyone has configured them.
        """
        agent = self._by_extension.get(endpoint) or self._by_extension.get(caller_number)
        if agent is not None:
            return agent if agent.name else Agent(agent.extension, caller_name, agent.answering_number, agent.number)
        # Endpoints are often called after a MAC address or a person; their caller ID is the extension then.
        extension = caller_number if not endpoint.isdigit() and caller_number.isdigit() else endpoint
        return Agent(extension, caller_name)
