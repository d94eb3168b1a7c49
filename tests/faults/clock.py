"""A wall clock that jumps: libfaketime in front of the bridge, its offset in a file that is read at each look.

The clock that only goes forward (CLOCK_MONOTONIC) is left alone, as it is on a machine whose time is set.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

DAY = 86400


class ClockUnavailable(Exception):  # noqa: N818 - a finding, which the tests decide about
    """There is no libfaketime, and here is why."""


def library() -> Path:
    """Return libfaketime, having installed it where it is missing. Raises `ClockUnavailable`."""
    found = _found()
    if found is not None:
        return found
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise ClockUnavailable("libfaketime is not installed (Debian package faketime), and only root can do that")
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "faketime"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClockUnavailable(f"{' '.join(command)} failed:\n{done.stdout[-500:]}{done.stderr[-500:]}")
    found = _found()
    if found is None:
        raise ClockUnavailable("the Debian package faketime has no libfaketime.so.1 where it used to be")
    return found


def _found() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class WallClock:
    """The wall clock of one process; `environment` makes the process use it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Let the clock be so many seconds ahead of the real one (negative: behind)."""
        # Another file in its place at once: one that is half written would be no time at all.
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)

    @staticmethod
    def clean_up_after(pid: int) -> None:
        """Remove what libfaketime leaves behind of a process that was killed: another with its number would stumble."""
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (Path("/dev/shm") / name).unlink(missing_ok=True)  # noqa: S108 - where POSIX shared memory is
