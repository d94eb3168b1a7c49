"""The benchmark runs from end to end and writes what it found. Nothing here says how fast anything must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.processes import environment
from bench.report import Report, Row, percentile
from tests.e2e import rootfs
from tests.e2e.conftest import in_ci

ROOT = Path(__file__).parents[2]
WITHOUT_ASTERISK = ("intake", "latency", "memory", "start", "recovery", "asking")


def run(file: Path, *steps: str) -> dict[str, Any]:
    """Run steps of the benchmark, as small as they can be, and return what was written."""
    command = [sys.executable, "-m", "bench", "--quick", "--json", str(file), "--only", *steps]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for row in found["rows"]:
        # Wide enough for all, so that nothing is cut off.
        assert row["what"].split()[0] in done.stdout
    return found


@pytest.mark.parametrize("step", WITHOUT_ASTERISK)
def test_a_step_runs_and_writes_its_rows(tmp_path: Path, step: str) -> None:
    found = run(tmp_path / "results.json", step)
    assert found["missing"] == []
    assert list(found["seconds"]) == [step]
    assert found["rows"]
    for row in found["rows"]:
        assert row["value"] is not None
        assert row["peer"], row["what"]
        assert row["peer_value"] is not None, row["what"]
    assert found["machine"]["cores"] == os.cpu_count()


@pytest.mark.e2e
def test_calls_through_a_real_asterisk_are_measured(tmp_path: Path) -> None:
    try:
        rootfs.ensure("22")
    except rootfs.RootfsUnavailable as error:
        if in_ci() and rootfs.obstacle() is not None:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"no Asterisk 22 here: {error}")
    found = run(tmp_path / "results.json", "real")
    assert found["missing"] == []
    assert {row["peer"] for row in found["rows"]} == {"", "Asterisk itself"}


def test_what_cannot_be_measured_is_reported_and_the_rest_is_not_lost(tmp_path: Path) -> None:
    report = Report(quick=True)
    report.rows.append(Row("step", "what", "ms", [3.0, 1.0, 2.0], "peer", [4.0, 4.0], "≤ 1 x", met=True))
    report.missing.append("step: no such thing here")
    report.write(tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["missing"] == ["step: no such thing here"]
    (row,) = written["rows"]
    assert (row["value"], row["peer_value"], row["ratio"], row["samples"]) == (2.0, 4.0, 0.5, [3.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("percent", "expected"), [(0.5, 1.0), (50.0, 50.0), (99.0, 99.0), (99.9, 100.0), (100.0, 100.0)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected
