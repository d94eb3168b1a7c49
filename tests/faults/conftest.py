"""What the trials share: the report, and which Asterisk there is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import rootfs
from tests.faults.report import Report

STARTING_AT_ONCE = 2
"""Bridges and PBXs that start at a time: as many as CI has cores."""


@contextlib.contextmanager
def _folder_in_memory() -> Iterator[Path]:
    """Give a folder in memory, if there is such a thing: a disk that others keep busy is not what is to be tried."""
    place = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    with tempfile.TemporaryDirectory(prefix="ami2zammad-", dir=place if os.access(place, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one test."""
    with _folder_in_memory() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """A folder for all tests of a module."""
    with _folder_in_memory() as folder:
        yield folder


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Where results go; written at the end."""
    report = Report()
    yield report
    report.write()


@pytest.fixture(scope="session")
def asterisk() -> str | None:
    """A version of Asterisk that can be had here; None if there is none, which CI must not do without."""
    reasons = []
    for version in ("22", "16"):
        try:
            rootfs.ensure(version)
        except rootfs.RootfsUnavailable as reason:
            reasons.append(str(reason))
        else:
            return version
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"no real Asterisk, which CI must not do without: {reasons}", pytrace=False)
    return None


@pytest.fixture(scope="module")
def starting() -> asyncio.Semaphore:
    """Bounds what starts at the same time: else nothing of it would be ready in time."""
    return asyncio.Semaphore(STARTING_AT_ONCE)
