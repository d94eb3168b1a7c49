"""Events a second from a socket: bare panoramisk with an empty callback against our protocol with its signals.

    python bench/intake.py [--events 200000] [--runs 5] [RECORDING …]

Both sides read the same bytes, from a thread that writes them over loopback, in turns, so that a busy machine
slows both. Prints the median of each and their ratio; says nothing about good or bad.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from panoramisk.manager import Manager

from ami2zammad.asterisk.events import event_name
from ami2zammad.asterisk.framing import MESSAGE_END
from ami2zammad.asterisk.protocol import AmiProtocol
from ami2zammad.asterisk.recording import read_messages

_RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
_GREETING = b"Asterisk Call Manager/11.0.0\r\n"
_LAST = b"Event: BenchmarkEnd\r\nPrivilege: user,all\r\n\r\n"


def default_recordings() -> list[Path]:
    """Those of an Asterisk 22 and an account that reads everything; else those of the unit tests."""
    return sorted((_RECORDINGS / "22-full").glob("*.ami")) or sorted((_RECORDINGS / "captures").glob("*.ami"))


def stream_of(recordings: list[Path], events: int) -> tuple[bytes, int]:
    """Give a stream of at least so many events, made of the recordings one after another, and their number."""
    messages = [m for path in recordings for _, m in read_messages(path) if event_name(m)]
    if not messages:
        sys.exit("no recordings with events: name one as an argument")
    times = -(-events // len(messages))
    one_round = MESSAGE_END.join(messages) + MESSAGE_END
    return _GREETING + one_round * times + _LAST, len(messages) * times


async def timed(stream: bytes, protocol: Callable[[asyncio.Future[None]], asyncio.Protocol]) -> float:
    """Give the seconds (wall clock) that a protocol takes for the stream, until it calls its future done."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    ours, theirs = _loopback()
    ours.setblocking(False)
    writer = threading.Thread(target=theirs.sendall, args=(stream,), daemon=True)
    transport, _ = await loop.create_connection(lambda: protocol(done), sock=ours)
    began = time.perf_counter()
    writer.start()
    await done
    seconds = time.perf_counter() - began
    writer.join()
    transport.close()
    theirs.close()
    return seconds


def _loopback() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    return ours, theirs


def bare(done: asyncio.Future[None]) -> asyncio.Protocol:
    """Give panoramisk's protocol and manager as they come, a callback for every event."""
    quiet = logging.getLogger("bench")
    quiet.setLevel(logging.CRITICAL)
    manager = Manager(loop=asyncio.get_running_loop(), log=quiet)

    def on_event(_: Any, event: Any) -> None:  # noqa: ANN401 -- panoramisk has no types
        if event.event == "BenchmarkEnd":
            done.set_result(None)

    manager.register_event("*", on_event)
    manager.connection_lost = lambda _: None
    protocol: asyncio.Protocol = manager.config["protocol_factory"]()
    made = protocol.connection_made

    def connection_made(transport: asyncio.BaseTransport) -> None:
        made(transport)
        manager.protocol = protocol
        for name, value in {"factory": manager, "log": quiet, "encoding": "utf8"}.items():
            setattr(protocol, name, value)

    protocol.connection_made = connection_made  # type: ignore[method-assign]
    return protocol


def ours(done: asyncio.Future[None]) -> asyncio.Protocol:
    """Give our protocol, with a sink that takes the signals; its tap is not set, as in `run`."""
    counted = [0]

    def sink(signals: list[Any]) -> None:
        counted[0] += len(signals)

    class Ending(AmiProtocol):
        tail = b""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.tail = (self.tail + data)[-len(_LAST) :] if len(data) < len(_LAST) else data[-len(_LAST) :]
            if self.tail == _LAST:
                done.set_result(None)

    manager = Manager(loop=asyncio.get_running_loop())
    return Ending(manager, sink, time.monotonic, lambda _: None)


def main() -> None:
    """Run both in turns and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    stream, events = stream_of(arguments.recordings or default_recordings(), arguments.events)
    rates: dict[str, list[float]] = {"bare panoramisk": [], "ami2zammad": []}
    for _ in range(arguments.runs):
        for name, protocol in (("bare panoramisk", bare), ("ami2zammad", ours)):
            rates[name].append(events / asyncio.run(timed(stream, protocol)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:16} {medians[name]:>12,.0f} events/s  (from {min(values):,.0f} to {max(values):,.0f})")
    print(f"ratio            {medians['ami2zammad'] / medians['bare panoramisk']:>12.1f}")
    print(f"{events:,} events, {len(stream) / 1e6:.0f} MB, {arguments.runs} runs each")


if __name__ == "__main__":
    main()
