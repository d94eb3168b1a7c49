"""Calls off the beaten track, recorded from a real Asterisk (`X.ami`), and what they must give (`X.jsonl`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami2zammad.asterisk.recording import read_recording
from ami2zammad.calls.numbers import NumberPlan
from ami2zammad.calls.tracker import CallTracker, TrackerRules
from ami2zammad.zammad.payloads import fields_of

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings" / "unusual").glob("*.ami"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_an_unusual_call_is_told_as_it_was(recording: Path) -> None:
    tracker = CallTracker(TrackerRules(trunks=("PJSIP/trunk*",), numbers=NumberPlan("DE", "0")))
    told = [fields_of(event) for signal in read_recording(recording) for event in tracker.handle(signal)]
    expected = recording.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    assert told == [json.loads(line) for line in expected]
    assert tracker.tracked_calls == 0


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) >= 19
