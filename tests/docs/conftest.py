"""Which Asterisk there is for the documentation's commands and dialplans."""

from __future__ import annotations

import pytest

from tests.e2e import rootfs
from tests.e2e.conftest import VERSIONS, in_ci


@pytest.fixture(scope="session")
def asterisk() -> str:
    """The latest version of Asterisk that can be had here; without any, tests are skipped, but in CI they fail."""
    reasons = []
    for version in VERSIONS:
        try:
            rootfs.ensure(version)
        except rootfs.RootfsUnavailable as reason:
            reasons.append(str(reason))
        else:
            return version
    if in_ci():
        pytest.fail(f"no real Asterisk, which CI must not do without: {reasons}", pytrace=False)
    pytest.skip(f"no Asterisk here: {reasons}")
