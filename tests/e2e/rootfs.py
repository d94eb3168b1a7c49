"""Root file systems: some with a real Asterisk in them, some with nothing but Debian.

Debian's stable release has no Asterisk, its neighbours do: sid has 22, bullseye has 16. Each is unpacked
once with debootstrap into a cache folder and entered with chroot from then on. Nothing is ever written
into a finished root file system; an Asterisk's own files live in a folder that is bind-mounted into it
(see :mod:`tests.e2e.asterisk`), so several can run from one root file system at the same time. What is
to be installed on Debian goes into a layer above (see :mod:`tests.packaging.machine`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "AMI2ZAMMAD_E2E_CACHE"
DEFAULT_CACHE = "/var/cache/ami2zammad-e2e"

MIRROR_VARIABLE = "AMI2ZAMMAD_E2E_MIRROR"
"""`AMI2ZAMMAD_E2E_MIRROR_BULLSEYE` names another mirror for a suite, the archive's one day."""

BASE_PACKAGES = ("asterisk", "asterisk-modules", "asterisk-config", "asterisk-core-sounds-en-gsm")

TIMEOUT = 1200.0
"""Seconds for one step of a build: it takes about 30 s with a good connection."""

OUTPUT_LINES = 15
"""How many of the last lines of a failed step end up in the reason."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A Debian suite, and what is to be in its root file system."""

    purpose: str
    name: str
    folder: str
    packages: tuple[str, ...] = ()


SUITES: dict[str, Suite] = {
    "22": Suite("Asterisk 22", "sid", "asterisk-sid", BASE_PACKAGES),
    # VoiceMail() is a package of its own there.
    "16": Suite("Asterisk 16", "bullseye", "asterisk-bullseye", (*BASE_PACKAGES, "asterisk-voicemail")),
}
"""By the version of Asterisk."""

RELEASES: dict[str, Suite] = {
    "12": Suite("Debian 12", "bookworm", "debian-bookworm"),
    "13": Suite("Debian 13", "trixie", "debian-trixie"),
}
"""By the number of Debian's release; as small as debootstrap makes them."""


class RootfsUnavailable(Exception):  # noqa: N818 - a finding, which the tests decide about
    """There is no such root file system, and here is why."""


def cache_dir() -> Path:
    """Return the folder that the root file systems are kept in."""
    return Path(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE)


def obstacle() -> str | None:
    """Return why this machine cannot run anything in a root file system of ours, or None if it can."""
    if os.geteuid() != 0:
        return "only root can mount and chroot"
    if not Path("/etc/debian_version").exists():
        return "not a Debian machine: there is no debootstrap to fetch another with"
    for tool in ("unshare", "setpriv", "chroot"):
        if shutil.which(tool) is None:
            return f"{tool} is missing"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "the kernel refuses a mount namespace (a container without CAP_SYS_ADMIN?)"
    return None


def ensure(version: str) -> Path:
    """Return the root file system with Asterisk *version* ("22" or "16"); build it first if need be.

    Raises :class:`RootfsUnavailable` with a reason to show to a human.
    """
    return _ensure(SUITES[version])


def ensure_debian(release: str) -> Path:
    """Return the root file system of Debian *release* ("12" or "13"); build it first if need be.

    Raises :class:`RootfsUnavailable` with a reason to show to a human.
    """
    return _ensure(RELEASES[release])


def _ensure(suite: Suite) -> Path:
    reason = obstacle()
    if reason is not None:
        raise RootfsUnavailable(f"{suite.purpose}: {reason}")
    root = cache_dir() / suite.folder
    # It got its name when it was complete.
    if root.exists():
        return root
    cache_dir().mkdir(parents=True, exist_ok=True)
    with _lock(cache_dir() / f"{suite.folder}.lock"):
        if not root.exists():  # else another run has built it while this one waited
            _build(suite, root)
    return root


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an advisory lock on *path*; the kernel drops it if this process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(suite: Suite, root: Path) -> None:
    """Build *root* under another name and rename it when it is complete, so half of one is never used."""
    if shutil.which("debootstrap") is None:
        _run(suite, ["apt-get", "update", "-q"])
        _run(suite, ["apt-get", "install", "-y", "-q", "--no-install-recommends", "debootstrap"])
    new = root.with_name(root.name + ".new")
    _remove(new)
    try:
        _debootstrap(suite, new)
        if suite.packages:
            _install(suite, new)
        new.rename(root)
    finally:
        _remove(new)


def _install(suite: Suite, root: Path) -> None:
    # Keeps the package's own Asterisk from starting inside the chroot.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    _run(
        suite,
        [
            *("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive"),
            *("apt-get", "install", "-y", "-q", "--no-install-recommends", *suite.packages),
        ],
    )


def _debootstrap(suite: Suite, target: Path) -> None:
    mirror = os.environ.get(f"{MIRROR_VARIABLE}_{suite.name.upper()}")
    command = ["debootstrap", "--variant=minbase", suite.name, str(target)]
    _run(suite, [*command, mirror] if mirror else command)


def _run(suite: Suite, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RootfsUnavailable(
            f"{suite.purpose} ({suite.name}): {' '.join(command)} took longer than {TIMEOUT:.0f} s"
        ) from None
    except OSError as error:
        raise RootfsUnavailable(f"{suite.purpose} ({suite.name}): {error}") from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-OUTPUT_LINES:])
        raise RootfsUnavailable(
            f"{suite.purpose} ({suite.name}): {' '.join(command)} failed with status {done.returncode}:\n{tail}"
        )


def _remove(path: Path) -> None:
    """Delete a root file system, unless something is mounted in it (then /proc or /dev would be emptied)."""
    if not path.exists():
        return
    mounts = Path("/proc/self/mounts").read_text()
    if any(line.split()[1].startswith(f"{path}/") for line in mounts.splitlines()):
        raise RootfsUnavailable(f"something is still mounted below {path}")
    shutil.rmtree(path)
