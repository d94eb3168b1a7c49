"""What systemd is told of the bridge: ready, its state in one line, that it lives, that it stops (sd_notify).

A few lines of our own: Debian's `python3-sdnotify` made its last release in 2017, knows neither the watchdog's
variables nor reloads, and may block; libsystemd's binding needs a compiler. The protocol is one datagram of
`NAME=value` lines to the socket that NOTIFY_SOCKET names (sd_notify(3)), and systemd promises to keep it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import structlog

from .state import BridgeState, faults
from .words import foreign

_STATUS_EVERY: Final = 1.0
"""Seconds between two status lines at least."""
_LONGEST_STATUS: Final = 200


class Notifier:
    """Tells the service manager; without one (`send` None) all of it does nothing.

    `send` brings one message to the service manager or raises OSError. `watchdog` is the time in seconds within which
    it wants a sign of life, None if it does not. `monotonic` is the system's CLOCK_MONOTONIC in seconds.
    """

    def __init__(
        self,
        send: Callable[[bytes], None] | None,
        *,
        watchdog: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        # Twice within the time: one may come late.
        self._ping_every = watchdog / 2 if watchdog is not None else None
        self._monotonic = monotonic
        self._log = structlog.get_logger()
        self._changed = asyncio.Event()
        self._ready = False
        self._reloading = False
        self._stopping = False
        self._failed = False
        self._stalled = False
        self._faulty = False
        self._status = ""
        self._status_at: float | None = None
        self._ping_at: float | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], *, pid: int | None = None) -> Self:
        """Return one that talks to the service manager that the environment names, if any.

        `pid` is this process; a watchdog that was meant for another one (WATCHDOG_PID) is not fed.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            # vsock and the like are for virtual machines as a whole.
            return cls(None)
        return cls(_Socket(address).send, watchdog=_watchdog(environment, os.getpid() if pid is None else pid))

    async def run(self, look: Callable[[], BridgeState]) -> None:
        """Keep the service manager informed until cancelled; end at once where there is none."""
        if self._send is None:
            return
        interval = min(_STATUS_EVERY, (self._ping_every or _STATUS_EVERY) / 2)
        while True:
            self._changed.clear()
            self._tell_guarded(look)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._changed.wait()

    def _tell_guarded(self, look: Callable[[], BridgeState]) -> None:
        try:
            self.tell(look())
        except Exception:  # noqa: BLE001
            # Calls go on without systemd knowing; if that lasts, its watchdog decides.
            if not self._faulty:
                self._log.exception("notify.fault")
            self._faulty = True

    def changed(self) -> None:
        """Let `run` look again at once: what was waited for has come."""
        self._changed.set()

    def tell(self, state: BridgeState) -> None:
        """Tell what is new in `state`, and feed the watchdog if calls are being tracked."""
        if self._stopping:
            return
        lines = []
        if not self._ready and state.asterisk.connected_since is not None:
            self._ready = state.outbox.problem is None
            lines += ["READY=1"] if self._ready else []
        status = status_line(state)
        if status != self._status and (self._status_at is None or state.now - self._status_at >= _STATUS_EVERY):
            self._status, self._status_at = status, state.now
            lines.append(f"STATUS={status}")
        lines += self._sign_of_life(state)
        self._say(*lines)

    def reloading(self) -> None:
        """Tell that the settings are read again; `reloaded` must follow."""
        self._reloading = self._ready
        if not self._ready:
            return
        # systemd tells by the time whether this answers its own request (Type=notify-reload).
        self._say("RELOADING=1", f"MONOTONIC_USEC={int(self._monotonic() * 1_000_000)}")

    def reloaded(self) -> None:
        """Tell that the settings were read, or could not be used and stay as they were."""
        if self._reloading:
            self._say("READY=1")
        self._reloading = False

    def stopping(self) -> None:
        """Tell that the bridge ends; nothing more is told after that."""
        self._say("STOPPING=1", "STATUS=stopping: delivering what is left")
        self._stopping = True

    def _sign_of_life(self, state: BridgeState) -> list[str]:
        """Return the watchdog's food, if it is time and the tracking of calls has moved since the last.

        It moves if it waits for signals, or began with its present ones less than half the watchdog's time ago. That
        this is run at all shows that the loop moves.
        """
        if self._ping_every is None or (self._ping_at is not None and state.now - self._ping_at < self._ping_every):
            return []
        if state.busy_since is not None and state.now - state.busy_since >= self._ping_every:
            if not self._stalled:
                self._log.error("notify.stalled", seconds=round(state.now - state.busy_since, 1))
            self._stalled = True
            return []
        self._stalled = False
        self._ping_at = state.now
        return ["WATCHDOG=1"]

    def _say(self, *lines: str) -> None:
        if not lines or self._send is None or self._stopping:
            return
        try:
            self._send("\n".join(lines).encode())
        except OSError as error:
            if not self._failed:
                self._log.warning("notify.failed", problem=error.strerror or type(error).__name__)
            self._failed = True
        else:
            self._failed = False


def status_line(state: BridgeState) -> str:
    """Return how a bridge is, in one line for `systemctl status`."""
    asterisk = state.asterisk
    name = f"{state.instance} ({asterisk.address})" if state.instance else asterisk.address
    if asterisk.connected_since is not None:
        calls = len(state.calls)
        told = f"connected to {name}, {calls} {'call' if calls == 1 else 'calls'}"
    else:
        told = f"not connected to {name}"
    parts = [f"{told}, {state.outbox.waiting} waiting for Zammad"]
    parts += [fault.problem.text for fault in faults(state)]
    return foreign("; ".join(parts), longest=_LONGEST_STATUS)


def _watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "")) / 1_000_000
        meant = int(environment.get("WATCHDOG_PID", pid))
    except ValueError:
        return None
    return seconds if seconds > 0 and meant == pid else None


class _Socket:
    """The service manager's socket, by its address; one that begins with @ is in the abstract namespace."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, message: bytes) -> None:
        """Send one message. Raises OSError; never waits."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.sendto(message, self._address)
