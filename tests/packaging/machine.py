"""A Debian of its own: a root file system of the cache with a layer above it that takes what is written.

PID 1 is an idle process or a real systemd; the network is this machine's.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e import rootfs
from tests.packaging.namespaces import PATIENCE, held, inside, run, scratch, wait_until

INSTALL_PATIENCE = 600.0
"""Seconds for what fetches packages."""

_IDLE = ("sleep", "infinity")
# A container's: this machine's clock, modules and power switch are none of its business.
_SYSTEMD = (
    *("setpriv", "--bounding-set=-sys_module,-sys_time,-sys_boot"),
    *("/lib/systemd/systemd", "--system", "--log-target=journal", "--show-status=0"),
)

# $1 root file system, $2 folder of its layer, $3 "boot" or "idle", then the program to become.
_BEGIN = """
root=$2/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$root"
cp --dereference --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
if [ "$3" = boot ]; then
    # systemd must not turn this machine's own knobs; its cgroups are below the one that holds it.
    mount --bind "$root/proc/sys" "$root/proc/sys"; mount -o remount,bind,ro "$root/proc/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
cd "$root"; pivot_root . mnt; umount -l /mnt; shift 3
# Services have namespaces of their own; what is mounted for them (credentials) must be seen in those.
mount --make-rshared /
exec env -i container=ami2zammad PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
"""


class Machine:
    """A Debian; get a running one with :func:`debian`."""

    def __init__(self, base: Path, layer: Path) -> None:
        self._base = base
        self._layer = layer
        self._pid = 0
        self._ending = contextlib.ExitStack()

    def start(self, *, boot: bool) -> None:
        """Run it, with systemd or with nothing. Only from the main thread: it ends with the thread that started it."""
        arguments = (str(self._base), str(self._layer), *(("boot", *_SYSTEMD) if boot else ("idle", *_IDLE)))
        running = held(
            _BEGIN,
            *arguments,
            becomes="systemd" if boot else "sleep",
            console=self._layer / "console",
            group=self._layer.name if boot else "",
        )
        self._pid = self._ending.enter_context(running)
        if boot:
            wait_until((self.root / "run/systemd/private").exists, "systemd listens")

    def stop(self) -> None:
        """End it, as a power cut would; what is on its disk stays."""
        self._ending.close()

    @property
    def root(self) -> Path:
        """Its root folder as seen from here, to read and write files (absolute links lead astray)."""
        return Path(f"/proc/{self._pid}/root")

    def run(self, *command: str, patience: float = PATIENCE) -> str:
        """Run a program in it as root, which must succeed; return what it prints."""
        code, output = self.attempt(*command, patience=patience)
        assert code == 0, f"{' '.join(command)} ended with {code}:\n{output}"
        return output

    def attempt(self, *command: str, patience: float = PATIENCE) -> tuple[int, str]:
        """Run a program in it as root; return its exit code and what it prints."""
        return run(self.command(*command), patience=patience)

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a program in it, from here."""
        return inside(
            self._pid,
            *("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"),
            *("DEBIAN_FRONTEND=noninteractive", "HOME=/root", "TERM=dumb", *command),
        )

    def install(self, *packages: str) -> str:
        """Install Debian packages, by name or by the path of a file in it; return what apt-get prints."""
        # The lists are as old as the cached root file system.
        self.run("apt-get", "update", "-q", patience=INSTALL_PATIENCE)
        return self.run(
            "apt-get", "install", "-y", "-q", "--no-install-recommends", *packages, patience=INSTALL_PATIENCE
        )

    def take(self, file: Path, name: str | None = None) -> str:
        """Copy *file* into its /root; return its path there."""
        target = f"/root/{name or file.name}"
        shutil.copyfile(file, self.root / target[1:])
        return target

    def files(self) -> set[str]:
        """Return all files, links and folders in it, but for what lives in memory (/dev, /proc, /run, /sys)."""
        return set(self.run("find", "/", "-xdev").splitlines())


@contextlib.contextmanager
def debian(release: str, *, packages: Sequence[str] = (), boot: bool = False) -> Iterator[Machine]:
    """Run Debian *release* ("12" or "13") with *packages* for the length of a ``with``; *boot*: systemd is its PID 1.

    Raises :class:`tests.e2e.rootfs.RootfsUnavailable` where it cannot be had.
    """
    base = rootfs.ensure_debian(release)
    layer = Path(tempfile.mkdtemp(prefix="ami2zammad-debian-", dir=scratch()))
    machine = Machine(base, layer)
    try:
        for name in ("upper", "work", "root"):
            (layer / name).mkdir()
        machine.start(boot=False)
        wanted = [*packages, *(["systemd"] if boot else [])]
        if wanted:
            machine.install(*wanted)
        if boot:
            machine.stop()
            machine.start(boot=True)
            state = machine.attempt("systemctl", "is-system-running", "--wait")
            assert state == (0, "running\n"), state
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(layer, ignore_errors=True)
