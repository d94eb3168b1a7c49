"""What systemd is told, and when; time is the state's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ami2zammad.ops.notify import Notifier, status_line
from ami2zammad.ops.state import AsteriskState, BridgeState, Problem
from tests.unit.ops.samples import HOSTILE, ILL, NOW, OUTBOX_PROBLEM, TALKING, WELL

WATCHDOG = 30.0


class Manager:
    """A service manager that takes note."""

    def __init__(self, watchdog: float | None = None) -> None:
        self.messages: list[str] = []
        self.broken: OSError | None = None
        self.notifier = Notifier(self.take, watchdog=watchdog, monotonic=lambda: 12.345678)

    def take(self, message: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        self.messages.append(message.decode())

    def told(self) -> list[str]:
        """Return the lines since the last time."""
        lines = [line for message in self.messages for line in message.split("\n")]
        self.messages.clear()
        return lines

    def tell(self, state: BridgeState, at: float = 0.0, busy_since: float | None = None) -> list[str]:
        """Let the notifier see `state` so many seconds later; return what it told."""
        busy = None if busy_since is None else NOW + busy_since
        self.notifier.tell(replace(state, now=NOW + at, busy_since=busy))
        return self.told()


CONNECTING = replace(WELL, asterisk=AsteriskState("192.0.2.17:5038", None), calls=())
STATUS = "STATUS=connected to pbx1 (192.0.2.17:5038), 3 calls, 0 waiting for Zammad"


def test_ready_when_asterisk_let_us_in_and_the_outbox_is_open() -> None:
    manager = Manager()
    assert manager.tell(CONNECTING) == [
        "STATUS=not connected to pbx1 (192.0.2.17:5038), 0 waiting for Zammad; not connected yet"
    ]
    broken = replace(WELL, outbox=replace(WELL.outbox, problem=OUTBOX_PROBLEM))
    assert "READY=1" not in manager.tell(broken, 1)
    assert manager.tell(WELL, 2) == ["READY=1", STATUS]


def test_ready_is_said_once_whatever_happens_later() -> None:
    manager = Manager()
    assert "READY=1" in manager.tell(WELL)
    lines = manager.tell(ILL, 5) + manager.tell(WELL, 10)
    assert [line.partition("=")[0] for line in lines] == ["STATUS", "STATUS"]


def test_ready_and_status_come_in_one_message() -> None:
    manager = Manager()
    manager.notifier.tell(WELL)
    assert manager.messages == [f"READY=1\n{STATUS}"]


def test_the_status_is_told_when_it_changes_and_at_most_once_a_second() -> None:
    manager = Manager()
    manager.tell(WELL)
    fewer = replace(WELL, calls=(TALKING,))
    assert manager.tell(WELL, 0.9) == []
    assert manager.tell(fewer, 0.95) == []
    assert manager.tell(fewer, 1.0) == [STATUS.replace("3 calls", "1 call")]
    assert manager.tell(fewer, 500) == []


def test_the_status_says_what_is_wrong() -> None:
    line = status_line(ILL)
    assert line.startswith(
        "not connected to pbx1 (192.0.2.17:5038), 1284 waiting for Zammad; Asterisk refused the login"
    )
    assert status_line(replace(WELL, instance="")).startswith("connected to 192.0.2.17:5038, 3 calls")


def test_no_name_breaks_the_line_or_makes_it_long() -> None:
    problem = Problem("a\nREADY=1\x00" + "b" * 10_000)
    state = replace(HOSTILE, instance="x\nSTOPPING=1", zammad=replace(WELL.zammad, problem=problem))
    line = status_line(state)
    assert "\n" not in line
    assert "\x00" not in line
    assert len(line) <= 200


def test_the_watchdog_is_fed_twice_within_its_time() -> None:
    manager = Manager(WATCHDOG)
    fed = [at for at in range(100) if "WATCHDOG=1" in manager.tell(WELL, at)]
    assert fed == [0, 15, 30, 45, 60, 75, 90]


def test_without_a_watchdog_nothing_is_fed() -> None:
    manager = Manager()
    assert not any("WATCHDOG=1" in manager.tell(WELL, at) for at in range(100))


def test_the_watchdog_is_not_fed_while_the_tracking_of_calls_stands_still() -> None:
    manager = Manager(WATCHDOG)
    assert "WATCHDOG=1" in manager.tell(WELL, 0, busy_since=-1)
    with capture_logs() as logs:
        fed = [at for at in range(1, 100) if "WATCHDOG=1" in manager.tell(WELL, at, busy_since=0.5)]
    # At 15 s it has been at it for 14.5 s; after that never again.
    assert fed == [15]
    assert [line["event"] for line in logs] == ["notify.stalled"]
    # As soon as it moves, systemd knows.
    assert "WATCHDOG=1" in manager.tell(WELL, 100, busy_since=99.9)
    assert "WATCHDOG=1" in manager.tell(WELL, 115)


def test_a_tracking_that_is_always_busy_but_moves_is_alive() -> None:
    manager = Manager(WATCHDOG)
    fed = [at for at in range(100) if "WATCHDOG=1" in manager.tell(WELL, at, busy_since=at - 3)]
    assert len(fed) == 7


def test_a_reload_carries_the_time_and_ends_ready() -> None:
    manager = Manager()
    manager.tell(WELL)
    manager.notifier.reloading()
    assert manager.told() == ["RELOADING=1", "MONOTONIC_USEC=12345678"]
    manager.notifier.reloaded()
    assert manager.told() == ["READY=1"]


def test_a_reload_before_the_bridge_is_ready_does_not_make_it_so() -> None:
    manager = Manager()
    manager.tell(CONNECTING)
    manager.notifier.reloading()
    manager.notifier.reloaded()
    assert manager.told() == []
    assert "READY=1" in manager.tell(WELL, 2)


def test_after_stopping_nothing_more_is_said() -> None:
    manager = Manager(WATCHDOG)
    manager.tell(WELL)
    manager.notifier.stopping()
    assert manager.told() == ["STOPPING=1", "STATUS=stopping: delivering what is left"]
    assert manager.tell(ILL, 60) == []
    manager.notifier.stopping()
    assert manager.told() == []


def test_a_service_manager_that_cannot_be_told_is_no_reason_to_end() -> None:
    manager = Manager(WATCHDOG)
    manager.broken = OSError(111, "Connection refused")
    with capture_logs() as logs:
        for at in range(100):
            manager.tell(ILL if at % 2 else WELL, at)
    assert [(line["event"], line["problem"]) for line in logs] == [("notify.failed", "Connection refused")]
    manager.broken = None
    assert "WATCHDOG=1" in manager.tell(WELL, 200)


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "run/notify"}]
)
async def test_without_a_service_manager_there_is_nothing_to_do(environment: dict[str, str]) -> None:
    notifier = Notifier.of_environment(environment)
    await notifier.run(lambda: WELL)
    notifier.tell(WELL)
    notifier.stopping()


async def test_a_fault_in_looking_ends_nothing() -> None:
    manager = Manager()
    looks = 0

    def look() -> BridgeState:
        nonlocal looks
        looks += 1
        if looks < 5:
            raise ValueError("a fault of ours")
        return WELL

    with capture_logs() as logs:
        task = asyncio.create_task(manager.notifier.run(look))
        async with asyncio.timeout(30):
            while not manager.messages:
                manager.notifier.changed()
                await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert [line["event"] for line in logs] == ["notify.fault"]


@pytest.mark.parametrize(
    ("environment", "fed"),
    [
        ({"WATCHDOG_USEC": "30000000"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("abstract", [False, True])
def test_the_environment_says_where_and_for_whom(
    environment: dict[str, str],
    fed: bool,  # noqa: FBT001
    abstract: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(f"\0{name}" if abstract else name)
        address = f"@{name}" if abstract else name
        Notifier.of_environment({**environment, "NOTIFY_SOCKET": address}, pid=42).tell(WELL)
        lines = manager.recv(4096).decode().split("\n")
    assert lines[:2] == ["READY=1", STATUS]
    assert ("WATCHDOG=1" in lines) is fed
