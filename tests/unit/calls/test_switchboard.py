"""Who is connected with whom."""

from ami2zammad.calls.call import Call, Channel
from ami2zammad.calls.sides import TrunkPatterns
from ami2zammad.calls.switchboard import Switchboard

PATTERNS = TrunkPatterns(trunks=("PJSIP/trunk*",))


class Exchange:
    """A switchboard with channels made by name."""

    def __init__(self, *names: str) -> None:
        self.board = Switchboard()
        for name in names:
            channel = Channel(name, "1", name, PATTERNS.side_of(name, "x"), "x", "", "", "", 0, Call("1", {"1"}))
            self.board.channels[name] = channel

    def bridge(self, bridge: str, *names: str) -> None:
        for name in names:
            self.board.enter(self.board.channels[name], bridge)

    def tie(self, one: str, other: str) -> None:
        self.board.channels[one].local_peer = other
        self.board.channels[other].local_peer = one

    def around(self, name: str) -> list[str]:
        return [channel.name for channel in self.board.around(self.board.channels[name])]


def test_two_in_a_bridge_talk() -> None:
    exchange = Exchange("PJSIP/trunk-1", "PJSIP/100-2")
    exchange.bridge("b", "PJSIP/trunk-1", "PJSIP/100-2")
    assert exchange.around("PJSIP/trunk-1") == ["PJSIP/100-2"]
    exchange.board.leave(exchange.board.channels["PJSIP/100-2"])
    assert exchange.around("PJSIP/trunk-1") == []


def test_local_channels_connect_bridges() -> None:
    exchange = Exchange("PJSIP/trunk-1", "Local/x@y-2;1", "Local/x@y-2;2", "PJSIP/100-3")
    exchange.bridge("a", "PJSIP/trunk-1", "Local/x@y-2;1")
    exchange.bridge("b", "PJSIP/100-3", "Local/x@y-2;2")
    assert exchange.around("PJSIP/trunk-1") == []
    exchange.tie("Local/x@y-2;1", "Local/x@y-2;2")
    assert exchange.around("PJSIP/trunk-1") == ["PJSIP/100-3"]
    assert exchange.around("PJSIP/100-3") == ["PJSIP/trunk-1"]


def test_a_device_does_not_connect_what_is_behind_it() -> None:
    exchange = Exchange("PJSIP/trunk-1", "PJSIP/100-2", "PJSIP/101-3")
    exchange.bridge("a", "PJSIP/trunk-1", "PJSIP/100-2")
    exchange.bridge("b", "PJSIP/101-3")
    assert exchange.around("PJSIP/trunk-1") == ["PJSIP/100-2"]


def test_a_channel_is_in_one_bridge_at_a_time_and_empty_bridges_are_forgotten() -> None:
    exchange = Exchange("PJSIP/100-2")
    exchange.bridge("a", "PJSIP/100-2")
    exchange.bridge("b", "PJSIP/100-2")
    assert list(exchange.board._bridges) == ["b"]
    exchange.board.remove(exchange.board.channels["PJSIP/100-2"])
    assert not exchange.board._bridges
    assert not exchange.board.channels


def test_a_conference_without_end_is_not_walked_to_its_end() -> None:
    names = [f"Local/{number}@x-1;1" for number in range(1000)]
    exchange = Exchange("PJSIP/trunk-1", *names)
    exchange.bridge("a", "PJSIP/trunk-1", *names)
    assert exchange.around("PJSIP/trunk-1") == []
