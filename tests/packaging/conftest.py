"""The packages, built once, and the Debians that they are for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import rootfs
from tests.e2e.conftest import in_ci

ROOT = Path(__file__).parents[2]
RELEASES = ("12", "13")


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """The number of a Debian that can be had here; tests for one that cannot are skipped, in CI they fail."""
    return available(str(request.param))


def available(number: str) -> str:
    """Return *number* if that release of Debian can be had here; else skip the test, or fail in CI."""
    reason = _obstacle(number)
    if reason and in_ci():
        pytest.fail(f"no Debian {number}, which CI must not do without: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"no Debian {number} here: {reason}")
    return number


def _obstacle(number: str) -> str:
    """Return why that release of Debian cannot be had here; empty if it can. It is unpacked if need be."""
    known = Path("/proc/filesystems").read_text(encoding="utf-8").split()
    missing = [kind for kind in ("overlay", "cgroup2") if kind not in known]
    if missing:
        return f"this kernel has no {' and no '.join(missing)}"
    try:
        rootfs.ensure_debian(number)
    except rootfs.RootfsUnavailable as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Our Debian packages, by the number of the release that they are for."""
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, str(ROOT / "packaging/debian/build.py"), "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {number: next(folder.glob(f"*+deb{number}_*.deb")) for number in RELEASES}
