"""Processes in namespaces of their own, so that what a test starts and mounts is gone when the test is.

One process is PID 1 inside. When it ends, however it ends (the test run may be killed), everything inside ends and the
kernel drops the mounts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

PATIENCE = 60.0
"""Seconds until a test gives up on something that takes a few."""

_PLENTY = 4 << 30
"""Bytes; what a test unpacks takes about a tenth of that."""

# Where systemd is to run: $1 names a group of processes of its own. Then the program to become.
_GROUP = """
mount -t cgroup2 cgroup2 /mnt; mkdir "/mnt/$1"; echo $$ > "/mnt/$1/cgroup.procs"; umount /mnt; shift
exec "$@"
"""
_UNGROUP = 'mount -t cgroup2 cgroup2 /mnt; find "/mnt/$1" -depth -type d -exec rmdir {} +'

_MOUNTS = ("unshare", "--mount", "--propagation", "private")


@contextlib.contextmanager
def held(script: str, *arguments: str, becomes: str, console: Path, group: str = "") -> Iterator[int]:
    """Run the shell *script*, which must end by becoming the program *becomes*; give the number of that process.

    The script is PID 1 of its own namespaces (processes, mounts, host name, IPC); what it prints goes to *console*.
    With *group* it also has a cgroup of that name for its own.
    """
    grouped = ["sh", "-euc", _GROUP, "sh", group] if group else []
    inside = ["unshare", "--pid", "--fork", "--kill-child", "--uts", "--ipc", *(["--cgroup"] if group else [])]
    with console.open("ab") as output:
        process = subprocess.Popen(
            [*("setpriv", "--pdeathsig", "KILL", *_MOUNTS, *grouped, *inside), "sh", "-euc", script, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    pid = None
    try:
        pid = _first(process, becomes, console)
        yield pid
    finally:
        # The first process inside: when it has gone, all others have, and so have the mounts.
        if pid is None:
            process.kill()
        else:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        if group:
            # Empty by now: systemd does not clear them away when it is killed.
            subprocess.run([*_MOUNTS, "sh", "-euc", _UNGROUP, "sh", group], capture_output=True, check=False)


def inside(pid: int, *command: str) -> list[str]:
    """Return the command line that runs a program where the process *pid* is."""
    spaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd")
    return ["nsenter", f"--target={pid}", *spaces, *command]


def _first(process: subprocess.Popen[bytes], program: str, console: Path) -> int:
    """Wait until the first process inside runs *program*; return its number as seen from here."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def found() -> list[int]:
        assert process.poll() is None, f"nothing runs inside: {console.read_text(errors='replace')}"
        return [pid for pid in map(int, children.read_text().split()) if _program(pid) == program]

    return wait_until(found, f"{program} runs")[0]


def wait_until(condition: Callable[[], Result], what: str, *, patience: float = PATIENCE) -> Result:
    """Ask until *condition* gives something true, and return that; for what nobody tells by itself."""
    give_up = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < give_up, f"not within {patience:.0f} s: {what}"
        time.sleep(0.05)
    return result


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""


def run(command: Sequence[str], *, patience: float = PATIENCE, stdin: bytes | None = None) -> tuple[int, str]:
    """Run a program; return its exit code and what it printed, both streams together."""
    done = subprocess.run(
        command,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=patience,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def scratch() -> str:
    """Return the folder for what a test unpacks: in memory where there is plenty, which halves the time."""
    memory = Path("/dev/shm")  # noqa: S108 - what is put there gets a name of its own
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _PLENTY else "/var/tmp"  # noqa: S108
