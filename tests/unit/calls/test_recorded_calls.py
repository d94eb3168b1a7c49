"""Every scenario of docs/calls.md as recorded from a real Asterisk, and what the tracker makes of it.

The least account on Asterisk 16 and 22, and on 22 an account that reads everything: the result must be the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ami2zammad.asterisk.recording import read_recording
from ami2zammad.calls.numbers import NumberPlan
from ami2zammad.calls.tracker import CallTracker, TrackerRules
from ami2zammad.zammad.payloads import fields_of
from tests.caller_log import mismatches
from tests.e2e.scenarios import SCENARIOS

RECORDINGS = Path(__file__).parents[2] / "recordings"
# What the control of calls changes is not in a recording that was made without it.
RECORDED = [name for name in SCENARIOS if name != "in_blocked_caller"]


def test_every_scenario_is_recorded() -> None:
    for folder in ("16", "22", "22-full"):
        assert {path.stem for path in (RECORDINGS / folder).glob("*.ami")} == set(SCENARIOS), folder


@pytest.mark.parametrize("folder", ["16", "22", "22-full"])
@pytest.mark.parametrize("scenario", RECORDED)
def test_recorded_call(folder: str, scenario: str) -> None:
    tracker = CallTracker(TrackerRules(numbers=NumberPlan("DE", "0")))
    posted = [
        fields_of(event)
        for signal in read_recording(RECORDINGS / folder / f"{scenario}.ami")
        for event in tracker.handle(signal)
    ]
    assert mismatches(SCENARIOS[scenario].expected, posted) == []
    assert tracker.live_channels == tracker.tracked_calls == 0
