"""What each room is told of the settings: a room has rules of its own and does not know the settings."""

from __future__ import annotations

from .asterisk.connection import AmiEndpoint
from .calls.directory import Agent, Directory
from .calls.numbers import NumberPlan
from .calls.tracker import TrackerRules
from .control.control import ControlRules
from .control.numbers import EmergencyNumbers
from .outbox import OutboxRules
from .settings import Settings
from .zammad.endpoint import ZammadEndpoint


def ami_endpoint(settings: Settings) -> AmiEndpoint:
    """Return where Asterisk is."""
    asterisk = settings.asterisk
    return AmiEndpoint(
        host=asterisk.host,
        port=asterisk.port,
        username=asterisk.username,
        secret=asterisk.secret.get_secret_value(),
        tls=asterisk.tls,
        ca_file=asterisk.ca_file,
        auth=asterisk.auth,
        ping_interval=asterisk.ping_interval,
        ping_timeout=asterisk.ping_timeout,
    )


def zammad_endpoint(settings: Settings) -> ZammadEndpoint:
    """Return where Zammad is."""
    zammad = settings.zammad
    return ZammadEndpoint(
        url=zammad.url.get_secret_value(),
        format=zammad.format,
        timeout=zammad.timeout,
        ca_file=zammad.ca_file,
        verify_tls=zammad.verify_tls,
        queue_as_to=zammad.queue_as_to,
    )


def outbox_rules(settings: Settings) -> OutboxRules:
    """Return where events wait, and for how long."""
    outbox = settings.outbox
    return OutboxRules(path=outbox.path, limit=outbox.limit, max_age=outbox.max_age, drain_rate=outbox.drain_rate)


def control_rules(settings: Settings) -> ControlRules:
    """Return what Zammad's replies may do."""
    control = settings.control
    return ControlRules(
        reject=control.reject,
        decision_timeout=control.decision_timeout,
        originate=control.originate,
        originate_channel=control.originate_channel,
        agent_channel=control.agent_channel,
        caller_name=control.caller_name,
        emergency=EmergencyNumbers(
            settings.numbers.country, frozenset(control.emergency), settings.numbers.outbound_prefix
        ),
    )


def directory_of(settings: Settings) -> Directory:
    """Return who the agents are."""
    return Directory(
        Agent(agent.extension, agent.name, agent.answering_number, agent.number) for agent in settings.agents
    )


def tracker_rules(settings: Settings) -> TrackerRules:
    """Return how this PBX is set up."""
    directory = directory_of(settings)
    return TrackerRules(
        instance=settings.instance,
        trunks=settings.asterisk.trunks,
        trunk_contexts=settings.asterisk.trunk_contexts,
        announce_on_arrival=settings.calls.announce == "arrival",
        settle=settings.calls.settle,
        voicemail_applications=settings.calls.voicemail_applications,
        ignore_contexts=settings.calls.ignore_contexts,
        numbers=NumberPlan(settings.numbers.country, settings.numbers.outbound_prefix, directory.extensions),
        directory=directory,
    )
