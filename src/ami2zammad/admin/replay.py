"""`replay`: what a recorded AMI stream would post to Zammad. Needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TextIO

from ami2zammad.asterisk.recording import read_recording
from ami2zammad.calls.events import CallEvent
from ami2zammad.calls.tracker import CallTracker
from ami2zammad.rules import tracker_rules
from ami2zammad.settings import Settings
from ami2zammad.zammad.payloads import fields_of

NO_PBX: Final = {
    "asterisk": {"username": "replay", "secret": "replay"},
    "zammad": {"url": "https://zammad.invalid/api/v1/cti/replay"},
}
"""What stands in for the settings that a replay has no use for, so that it works without any configuration."""


def replay(recording: Path, settings: Settings, output: TextIO) -> int:
    """Write one JSON object a line, as it would be posted; return how many entries are open at the end.

    Raises `NotARecording` for a file that holds no AMI stream, and OSError as `open` does.
    """
    tracker = CallTracker(tracker_rules(settings))
    for signal in read_recording(recording):
        output.writelines(_line(event, settings) for event in tracker.handle(signal))
    return tracker.live_calls


def _line(event: CallEvent, settings: Settings) -> str:
    return json.dumps(fields_of(event, queue_as_to=settings.zammad.queue_as_to), ensure_ascii=False) + "\n"
