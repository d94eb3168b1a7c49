"""How many signals a second the call tracker takes in, alone and behind the parser.

    python bench/tracker.py [FOLDER]

The recordings in FOLDER (default: tests/recordings/22-full) are played again and again with fresh identities. The
figures are for this machine and moment; compare them with each other and with bench/intake.py of the same run.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path

from ami2zammad.asterisk.events import EVENTS, event_name
from ami2zammad.asterisk.recording import read_messages, read_recording
from ami2zammad.calls.signalling import Signal
from ami2zammad.calls.tracker import CallTracker, TrackerRules

RUNS = 5
ROUNDS = 12
_IDENTITIES = ("uniqueid", "linkedid", "dest_uniqueid", "dest_linkedid", "bridge", "first_uniqueid", "second_uniqueid")


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tests/recordings/22-full"
    recordings = sorted(folder.glob("*.ami"))
    stream = [
        renamed(signal, f"{number}-")
        for number in range(ROUNDS)
        for path in recordings
        for signal in read_recording(path)
    ]
    messages = [message for path in recordings for _, message in read_messages(path)]
    print(f"{len(recordings)} recordings, {len(stream)} signals, {len(messages) * ROUNDS} events, {RUNS} runs")
    alone = [measure_tracker(stream) for _ in range(RUNS)]
    parsed = [measure_parser_and_tracker(messages) for _ in range(RUNS)]
    print(f"tracker alone:      {_figures(alone)} signals/s")
    print(f"parser and tracker: {_figures(parsed)} events/s")


def _figures(rates: list[float]) -> str:
    return f"{statistics.median(rates):>12,.0f} (min {min(rates):,.0f}, max {max(rates):,.0f})"


def measure_tracker(stream: list[Signal]) -> float:
    """Return signals a second."""
    tracker = CallTracker(TrackerRules())
    began = time.perf_counter()
    for signal in stream:
        tracker.handle(signal)
    return len(stream) / (time.perf_counter() - began)


def measure_parser_and_tracker(messages: list[bytes]) -> float:
    """Return AMI events a second, from complete messages to call events."""
    count = 0
    began = time.perf_counter()
    for _ in range(ROUNDS):
        # A fresh tracker each round: the messages keep their identities.
        tracker = CallTracker(TrackerRules())
        for message in messages:
            count += 1
            reader = EVENTS.get(event_name(message))
            signal = reader(message, 0.0) if reader is not None else None
            if signal is not None:
                tracker.handle(signal)
    return count / (time.perf_counter() - began)


def renamed(signal: Signal, prefix: str) -> Signal:
    """Return `signal` with identities of its own, so that no call comes twice."""
    changes = {name: prefix + getattr(signal, name) for name in _IDENTITIES if getattr(signal, name, "")}
    return dataclasses.replace(signal, **changes)


if __name__ == "__main__":
    main()
