"""What several tests of this folder need."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture


@pytest.fixture
def capture() -> LogCapture:
    return LogCapture()


@pytest.fixture
def log(capture: LogCapture) -> Any:
    """Give a logger of which `capture.entries` keeps everything."""
    return structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
