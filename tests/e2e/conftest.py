"""Where a real Asterisk can be had, and the table of what ran on which."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e import rootfs

VERSIONS = ("22", "16")
REPORT = Path("test-report") / "scenarios.md"
_MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
_outcomes: pytest.StashKey[dict[str, dict[str, str]]] = pytest.StashKey()
_absent: pytest.StashKey[dict[str, str]] = pytest.StashKey()


def in_ci() -> bool:
    """Say whether this is CI, where the tests against a real Asterisk must not be skipped."""
    return os.environ.get("CI", "").lower() == "true"


def pytest_configure(config: pytest.Config) -> None:
    outcomes: dict[str, dict[str, str]] = defaultdict(dict)
    absent: dict[str, str] = {}
    config.stash[_outcomes] = outcomes
    config.stash[_absent] = absent


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """A version of Asterisk that can be had here; tests for one that cannot are skipped, in CI at most one is."""
    version = str(request.param)
    absent = request.config.stash[_absent]
    try:
        rootfs.ensure(version)
    except rootfs.RootfsUnavailable as error:
        absent[version] = str(error)
        if in_ci() and len(absent) == len(VERSIONS):
            pytest.fail(f"no real Asterisk at all, which CI must not do without: {absent}", pytrace=False)
        pytest.skip(f"no Asterisk {version} here: {error}")
    return version


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "scenario" in callspec.params and (call.when == "call" or report.outcome != "passed"):
        row = item.config.stash[_outcomes][str(callspec.params["scenario"])]
        row[str(callspec.params["version"])] = report.outcome
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash[_outcomes]
    if not outcomes:
        return
    lines = ["| scenario | " + " | ".join(f"Asterisk {version}" for version in VERSIONS) + " |"]
    lines.append("|---" * (len(VERSIONS) + 1) + "|")
    for name, row in outcomes.items():
        lines.append(f"| {name} | " + " | ".join(_MARKS[row.get(version, "skipped")] for version in VERSIONS) + " |")
    ran = [version for version in VERSIONS if any(row.get(version) == "passed" for row in outcomes.values())]
    terminalreporter.section("calls placed through a real Asterisk")
    for line in lines:
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"real Asterisk that ran: {', '.join(ran) or 'NONE'}", bold=True)
    for version, reason in config.stash[_absent].items():
        terminalreporter.write_line(f"NOT RUN: Asterisk {version}: {reason}", red=True, bold=True)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
