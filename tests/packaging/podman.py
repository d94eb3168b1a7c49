"""Podman, which builds and runs what a Dockerfile says without a daemon; namespaces and storage are a test's own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.packaging.machine import INSTALL_PATIENCE, Machine
from tests.packaging.namespaces import PATIENCE, held, inside, run

# One hierarchy of cgroups, which is all that crun knows, and none of them used; /proc of the processes inside.
_BEGIN = """
umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
exec sleep infinity
"""

# What containers may open is not raised: that takes a right which not every machine grants root.
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")

# This machine's own settings for reaching the package index.
_FETCHING = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


class Podman:
    """Get one with :func:`podman`."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._options = (
            f"--root={folder}/storage", f"--runroot={folder}/run", "--cgroup-manager=cgroupfs", "--runtime=crun",
            "--events-backend=file", f"--tmpdir={folder}/tmp",  # noqa: S108
        )  # fmt: skip

    def attempt(self, *arguments: str, patience: float = PATIENCE, stdin: bytes | None = None) -> tuple[int, str]:
        """Run podman; return its exit code and what it prints."""
        return run(inside(self._pid, "podman", *self._options, *arguments), patience=patience, stdin=stdin)

    def run(self, *arguments: str, patience: float = PATIENCE, stdin: bytes | None = None) -> str:
        """Run podman, which must succeed; return what it prints."""
        code, output = self.attempt(*arguments, patience=patience, stdin=stdin)
        assert code == 0, f"podman {' '.join(arguments)} ended with {code}:\n{output}"
        return output

    def take(self, machine: Machine, image: str) -> None:
        """Make an image of what is on a machine's disk."""
        with subprocess.Popen(
            machine.command("tar", "--one-file-system", "-C", "/", "-c", "."), stdout=subprocess.PIPE
        ) as tar:
            done = subprocess.run(
                inside(self._pid, "podman", *self._options, "import", "--quiet", "-", image),
                stdin=tar.stdout,
                capture_output=True,
                check=False,
            )
        assert (done.returncode, tar.returncode) == (0, 0), done.stderr

    def build(self, folder: Path, image: str, base: str) -> str:
        """Build the Dockerfile in *folder*, from the image *base*; return what is printed."""
        volumes = [f"--volume={path}:{path}:ro" for path in _FETCHING if Path(path).exists()]
        return self.run(
            *("build", "--format=docker", "--isolation=chroot", "--network=host", "--pull=never"),
            *(*volumes, f"--build-arg=BASE={base}", f"--tag={image}", str(folder)),
            patience=INSTALL_PATIENCE,
        )

    def start(self, name: str, *arguments: str) -> None:
        """Start a container in this machine's network, as strict as docs/container.md has it; *arguments*: the rest."""
        self.run(
            *("run", "--detach", f"--name={name}", "--cgroups=disabled", "--network=host", *_LIMITS),
            *("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"),
            *arguments,
        )


@contextlib.contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """Have a podman whose images and containers are in *folder*; all of it ends with the ``with``."""
    folder.mkdir(exist_ok=True)
    with held(_BEGIN, becomes="sleep", console=folder / "console") as pid:
        podman = Podman(pid, folder)
        try:
            yield podman
        finally:
            podman.attempt("rm", "--all", "--force", "--time=0")
