"""Which Asterisk there is for the documentation's commands and dialplans."""

from __future__ import annotations

import pytest

from tests.e2e import rootfs
from tests.e2e.conftest import VERSIONS, in_ci


@pytest.fixture(scope="session")
def asterisks() -> list[str]:
    """The versions of Asterisk that can be had here; without any, tests are skipped, but in CI they fail."""
    found, reasons = [], []
    for version in VERSIONS:
        try:
            rootfs.ensure(version)
        except rootfs.RootfsUnavailable as reason:
            reasons.append(str(reason))
        else:
            found.append(version)
    if not found and in_ci():
        pytest.fail(f"no real Asterisk, which CI must not do without: {reasons}", pytrace=False)
    if not found:
        pytest.skip(f"no Asterisk here: {reasons}")
    return found


@pytest.fixture(scope="session")
def asterisk(asterisks: list[str]) -> str:
    """The latest of them."""
    return asterisks[0]
