"""The packages on real Debians, and the service under a real systemd: installed, run, upgraded, removed, purged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ami2zammad import __version__
from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.packaging.conftest import ROOT
from tests.packaging.machine import INSTALL_PATIENCE, Machine, debian
from tests.packaging.namespaces import run, wait_until
from tests.packaging.service import SECRET, Service

pytestmark = pytest.mark.e2e

RECORDINGS = ROOT / "tests" / "recordings"
UNITS = ("/usr/lib/systemd/system/ami2zammad.service", "/usr/lib/systemd/system/ami2zammad@.service")
SEPARATE_SECRETS = ("ami2zammad_asterisk__secret", "ami2zammad_zammad__url")


@pytest.fixture(scope="module")
def machine(release: str, packages: dict[str, Path]) -> Iterator[Machine]:
    """A Debian that runs, with our package installed while it does."""
    with debian(release, packages=["jq"], boot=True) as machine:
        machine.install(machine.take(packages[release], "ami2zammad.deb"))
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    service = Service(machine)
    yield service
    service.clean()


@contextlib.asynccontextmanager
async def started(service: Service, *, secret: str = SECRET) -> AsyncIterator[tuple[PbxSandbox, ZammadSandbox]]:
    """Start the service between two sandboxes, and wait until systemd says that it is ready."""
    async with PbxSandbox(secret=secret) as pbx, ZammadSandbox() as zammad:
        service.configure(port=pbx.port, url=zammad.url, secret=secret)
        await asyncio.to_thread(service.do, "start")
        yield pbx, zammad


async def until(condition: object, what: str) -> None:
    """Wait until *condition*, a function that may block, gives something true."""
    assert callable(condition)
    await asyncio.to_thread(wait_until, condition, what)


async def place_a_call(pbx: PbxSandbox, zammad: ZammadSandbox, *, entries: int = 1) -> None:
    """Play a recorded call; Zammad must have it, as the newest of so many *entries*."""
    # After the snapshot of the newest connection: what a call does before that is in no snapshot of a sandbox.
    await pbx.wait_for(lambda: sum(action.get("Action") == "Status" for action in pbx.actions) >= pbx.connections)
    await pbx.play(RECORDINGS / "22" / "in_answer_caller_hangs_up.ami")
    await zammad.wait_for(lambda z: len(z.log) == entries and z.log[-1].state == "hangup", 60)
    assert zammad.log[-1].changes == ["newCall", "answer", "hangup"]


def test_what_an_installation_brings(machine: Machine) -> None:
    stat = ("stat", "--format=%A %U %G %n", "/etc/ami2zammad", "/var/lib/ami2zammad", "/usr/bin/ami2zammad")
    assert machine.run(*stat).splitlines() == [
        "drwxr-s--- root ami2zammad /etc/ami2zammad",
        "drwx------ ami2zammad ami2zammad /var/lib/ami2zammad",
        "-rwxr-xr-x root root /usr/bin/ami2zammad",
    ]
    # It starts nothing: there are no settings yet.
    assert machine.attempt("systemctl", "is-enabled", "ami2zammad")[1] == "disabled\n"
    assert machine.attempt("systemctl", "is-active", "ami2zammad")[1] == "inactive\n"
    assert machine.run("ls", "/etc/ami2zammad") == ""
    assert machine.run("getent", "passwd", "ami2zammad").rstrip().endswith(":/var/lib/ami2zammad:/usr/sbin/nologin")
    assert machine.run("ami2zammad", "--version") == f"ami2zammad {__version__}\n"
    # From whatever folder, with whatever Python settings the caller has.
    code, output = machine.attempt("sh", "-c", "cd /tmp && echo broken > structlog.py && PYTHONPATH=. ami2zammad check")
    assert (code, "ami2zammad.toml" in output or "[asterisk]" in output) == (2, True), output


def test_the_package_is_whole(machine: Machine) -> None:
    assert machine.run("dpkg", "--verify", "ami2zammad") == ""
    manual = machine.run("zcat", "/usr/share/man/man1/ami2zammad.1.gz")
    assert {".SS run", ".SS init", ".SS check", ".SS status", ".SS replay"} <= set(manual.splitlines())
    for page in ("README.md", "docs/install.md", "config/ami2zammad.toml", "copyright"):
        assert machine.run("head", "-n1", f"/usr/share/doc/ami2zammad/{page}")


def test_the_libraries_are_whose_they_should_be(machine: Machine, release: str) -> None:
    isolated = machine.run("head", "-n1", "/usr/bin/ami2zammad").strip().removeprefix("#!").split()
    where = machine.run(*isolated, "-c", "import aiohttp, pydantic, panoramisk; print(aiohttp.__file__)")
    assert where.startswith("/usr/lib/python3/dist-packages" if release == "13" else "/usr/lib/ami2zammad/")


def test_the_unit_decides_where_memory_comes_from(machine: Machine) -> None:
    # Python itself refuses an allocator that it does not know: so the command heeds the unit's PYTHONMALLOC.
    code, said = machine.attempt("env", "PYTHONMALLOC=unheard-of", "ami2zammad", "--version")
    assert (code, "PYTHONMALLOC" in said) == (1, True)
    assert machine.run("env", "PYTHONMALLOC=malloc", "ami2zammad", "--version")


def test_the_commands_run(machine: Machine) -> None:
    recording = machine.take(RECORDINGS / "captures" / "in_answer.ami")
    lines = [json.loads(line) for line in machine.run("ami2zammad", "replay", recording).splitlines()]
    assert [line["event"] for line in lines] == ["newCall", "answer", "hangup"]
    assert "complete and in order" in machine.run("ami2zammad", "demo", "--speed", "4", patience=INSTALL_PATIENCE)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine, unit: str) -> None:
    # A system without man cannot look for the manual page.
    assert machine.run("systemd-analyze", "verify", "--man=no", unit) == ""
    # In tenths; a usual service has 9.
    audit = machine.run("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", audit)
    assert exposure is not None, audit
    assert float(exposure[1]) <= 1.5


async def test_a_service_waits_for_asterisk_then_bridges_and_stops(service: Service) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pbx = PbxSandbox()
    async with ZammadSandbox() as zammad:
        service.configure(port=port, url=zammad.url)
        await asyncio.to_thread(service.do, "start", "--no-block")
        await until(lambda: "not connected" in service.get("StatusText"), "the status says what it waits for")
        assert service.get("ActiveState") == "activating"
        await pbx.start(port=port)
        try:
            # Returns when it is ready.
            await asyncio.to_thread(service.do, "start")
            await until(lambda: service.get("StatusText").startswith("connected"), "the status says so")
            await place_a_call(pbx, zammad)
            await asyncio.to_thread(service.do, "stop")
        finally:
            await pbx.close()
    assert (service.get("Result"), service.get("ExecMainStatus"), service.get("NRestarts")) == ("success", "0", "0")
    assert [line["event"] for line in service.events() if line["event"].startswith("call.")] == [
        "call.new", "call.answered", "call.ended",
    ]  # fmt: skip
    assert service.events()[-1]["event"] == "bridge.stopped"


async def test_the_journal_files_by_priority_and_the_documented_commands_find_it(
    machine: Machine, service: Service
) -> None:
    async with started(service) as (pbx, zammad):
        await place_a_call(pbx, zammad)
        pbx.cut()
        await until(lambda: any(line["event"] == "ami.disconnected" for line in service.events()), "it is cut off")
        call = zammad.log[0].call_id
    priorities = {
        json.loads(str(e["MESSAGE"]))["level"]: e["PRIORITY"] for e in service.journal() if "{" in e["MESSAGE"]
    }
    assert (priorities["info"], priorities["warning"]) == ("6", "4")
    assert all("timestamp" not in line for line in service.events())
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8").replace("1795294371.98", call)
    calls, one, todo, wrong, timed = (
        machine.run("sh", "-c", line).splitlines()
        for line in re.findall(r"^    (journalctl .*?)(?: +# .*)?$", page, flags=re.MULTILINE)
    )
    assert {"call.new", "call.answered", "call.ended"} <= {json.loads(line)["event"] for line in calls}
    assert {json.loads(line)["call_id"] for line in one} == {call}
    assert any(json.loads(line)["event"] == "ami.disconnected" for line in todo)
    assert any("ami.disconnected" in line for line in wrong)
    assert not any("call.new" in line for line in wrong)
    assert all(re.match(r'\{"timestamp":"20\d\d-', line) for line in timed)


async def test_a_service_has_few_rights_and_keeps_its_secrets(machine: Machine, service: Service) -> None:
    async with started(service, secret="very-s3cret"):
        status = (service.process / "status").read_text()
        for line in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            assert line in status
        assert re.search(r"Max core file size +0 +0 ", (service.process / "limits").read_text())
        assert b"very-s3cret" not in (service.process / "environ").read_bytes()
        assert machine.run("stat", "--format=%U", f"/proc/{service.get('MainPID')}") == "ami2zammad\n"
        # Others on the machine neither read the settings nor what waits.
        for path in (service.settings, "/var/lib/ami2zammad"):
            code, output = machine.attempt("runuser", "-u", "nobody", "--", "ls", path)
            assert (code, "Permission denied" in output) == (2, True), output
    assert not [entry for entry in service.journal() if "very-s3cret" in str(entry)]


async def test_secrets_may_be_files_that_root_alone_reads(machine: Machine, service: Service) -> None:
    async with PbxSandbox(secret="from-a-file") as pbx, ZammadSandbox() as zammad:
        service.configure(port=pbx.port, url=zammad.url)
        settings = machine.root / service.settings[1:]
        kept = [line for line in settings.read_text().splitlines() if not line.startswith(("secret", "url"))]
        settings.write_text("\n".join(kept))
        for name, text in zip(SEPARATE_SECRETS, ("from-a-file", zammad.url), strict=True):
            machine.run("install", "-D", "-m", "0600", "/dev/null", f"/etc/credstore/{name}")
            (machine.root / "etc/credstore" / name).write_text(text + "\n")
        await asyncio.to_thread(service.do, "start")
        await place_a_call(pbx, zammad)


async def test_what_root_has_left_does_not_keep_the_service_from_its_outbox(machine: Machine, service: Service) -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        service.configure(port=pbx.port, url=zammad.url)
        # By hand, as whoever follows a README tries it first; timeout(1) says 124 when it had to end it.
        tried = await asyncio.to_thread(machine.attempt, "timeout", "15", "ami2zammad", "run")
        assert tried[0] == 124, tried
        assert machine.run("stat", "--format=%U", f"{service.state}/outbox.db") == "root\n"
        await asyncio.to_thread(service.do, "start")
        assert machine.run("stat", "--format=%U", f"{service.state}/outbox.db") == "ami2zammad\n"
        assert not [line for line in service.events() if line["event"] == "outbox.not_durable"]


async def test_a_reload_takes_the_settings_of_now(service: Service) -> None:
    async with started(service) as (pbx, zammad):
        process = service.get("MainPID")
        service.configure(port=pbx.port, url=zammad.url, more='[[agents]]\nextension = "100"\nname = "Renamed Agent"\n')
        await asyncio.to_thread(service.do, "reload")
        await until(lambda: any(line["event"] == "bridge.reloaded" for line in service.events()), "it has read them")
        await place_a_call(pbx, zammad)
        assert zammad.log[0].to_comment == "Renamed Agent"
        assert service.get("MainPID") == process


def test_settings_that_cannot_be_used_are_not_tried_again(machine: Machine, service: Service) -> None:
    (machine.root / service.settings[1:]).write_text("[asterisk]\nprot = 1\n")
    code, _ = machine.attempt("systemctl", "start", service.unit)
    assert code == 1
    assert (service.get("ExecMainStatus"), service.get("NRestarts")) == ("2", "0")
    assert service.get("ActiveState") == "failed"
    complaints = [entry for entry in service.journal() if "unknown key; did you mean port?" in str(entry["MESSAGE"])]
    assert complaints[-1]["PRIORITY"] == "3"


async def test_a_service_that_is_killed_is_started_again(machine: Machine, service: Service) -> None:
    service.drop_in("RestartSec=100ms")
    async with started(service) as (pbx, zammad):
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", service.unit)
        await pbx.wait_for(lambda: pbx.connections == 2)
        await until(lambda: service.get("ActiveState") == "active", "it is ready again")
        assert service.get("NRestarts") == "1"
        await place_a_call(pbx, zammad)


async def test_a_service_that_hangs_is_started_again(machine: Machine, service: Service) -> None:
    service.drop_in("WatchdogSec=2", "TimeoutAbortSec=1", "RestartSec=100ms")
    async with started(service) as (pbx, zammad):
        # Longer than the watchdog waits: it is fed. Only then it counts that it stops being so.
        fed = service.get("WatchdogTimestampMonotonic")
        await until(lambda: int(service.get("WatchdogTimestampMonotonic")) > int(fed) + 3_000_000, "it is fed")
        assert service.get("NRestarts") == "0"
        machine.run("systemctl", "kill", "--kill-whom=main", f"--signal={signal.SIGSTOP.name}", service.unit)
        await pbx.wait_for(lambda: pbx.connections == 2)
        assert any("Watchdog timeout" in str(entry["MESSAGE"]) for entry in service.journal())
        await place_a_call(pbx, zammad)


async def test_several_bridges_run_side_by_side(machine: Machine, service: Service) -> None:
    second = Service(machine, "pbx2")
    try:
        async with started(service) as (pbx, zammad), started(second) as (other_pbx, other_zammad):
            await place_a_call(other_pbx, other_zammad)
            assert zammad.log == []
            await place_a_call(pbx, zammad)
            owner = machine.run("stat", "--format=%A %U", second.state)
            assert owner == "drwx------ ami2zammad\n"
    finally:
        second.clean()
        machine.run("rmdir", second.state)


async def test_the_machine_comes_up_though_asterisk_is_away(machine: Machine, service: Service) -> None:
    async with ZammadSandbox() as zammad, PbxSandbox() as pbx:
        service.configure(port=pbx.port, url=zammad.url)
        port = pbx.port
        await pbx.close()
        service.do("enable")
        machine.stop()
        machine.start(boot=True)
        wait_until(lambda: service.get("ActiveState") == "activating", "the bridge is started")
        state = machine.run("systemctl", "is-active", "multi-user.target")
        assert state == "active\n"
        back = PbxSandbox()
        await back.start(port=port)
        try:
            await until(lambda: service.get("ActiveState") == "active", "it is ready once Asterisk is there")
        finally:
            await back.close()


async def test_an_upgrade_keeps_settings_and_restarts_what_runs(
    machine: Machine, service: Service, release: str, packages: dict[str, Path], tmp_path: Path
) -> None:
    newer = _newer(packages[release], tmp_path)
    async with started(service) as (pbx, zammad):
        before = (machine.root / service.settings[1:]).read_bytes()
        process = service.get("MainPID")
        await asyncio.to_thread(
            machine.run, "dpkg", "--install", machine.take(newer, "newer.deb"), patience=INSTALL_PATIENCE
        )
        await until(lambda: service.get("MainPID") not in {process, "0"}, "it was restarted")
        await until(lambda: service.get("ActiveState") == "active", "it is ready again")
        await place_a_call(pbx, zammad)
        assert (machine.root / service.settings[1:]).read_bytes() == before
        # An upgrade while Asterisk is away does not wait for it.
        await pbx.close()
        await asyncio.to_thread(machine.run, "dpkg", "--install", "/root/ami2zammad.deb", patience=INSTALL_PATIENCE)
        await until(lambda: service.get("ActiveState") == "activating", "it waits for Asterisk")


def _newer(package: Path, folder: Path) -> Path:
    """Make a package of a later version out of one, as a later build would."""
    tree, newer = folder / "tree", folder / "newer.deb"
    assert run(["dpkg-deb", "--raw-extract", str(package), str(tree)])[0] == 0
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: ", "Version: 1000.", control.read_text(), flags=re.MULTILINE))
    assert run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(tree), str(newer)])[0] == 0
    shutil.rmtree(tree)
    return newer


async def test_removal_keeps_settings_and_purging_leaves_nothing(machine: Machine, service: Service) -> None:
    async with started(service):
        service.do("enable")
        await asyncio.to_thread(machine.run, "apt-get", "remove", "-y", "-q", "ami2zammad", patience=INSTALL_PATIENCE)
        assert machine.attempt("pgrep", "-u", "ami2zammad") == (1, "")
    for kept in (service.settings, "/var/lib/ami2zammad/outbox.db"):
        machine.run("test", "-e", kept)
    machine.run("apt-get", "purge", "-y", "-q", "ami2zammad", patience=INSTALL_PATIENCE)
    ours = {"/root/ami2zammad.deb", "/root/newer.deb"}
    assert {path for path in machine.files() if "ami2zammad" in path} <= ours
    assert machine.run("find", "/", "-xdev", "-user", "ami2zammad", "-o", "-xdev", "-group", "ami2zammad") == ""
    # As it was, for the tests that come after.
    machine.run("dpkg", "--install", "/root/ami2zammad.deb", patience=INSTALL_PATIENCE)


@pytest.mark.parametrize("release", ["13"], indirect=True)
def test_the_unit_tests_pass_with_debians_own_libraries(machine: Machine) -> None:
    machine.install("python3-pytest", "python3-pytest-asyncio", "python3-hypothesis", "python3-trustme")
    project = machine.root / "root/project"
    for name in ("tests", "config", "docs", "systemd", "packaging"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, project / name)
    # Older test tools leave the sockets of their event loops to the garbage collector.
    options = "-q -p no:cacheprovider -W ignore::pytest.PytestUnraisableExceptionWarning"
    # What is read of the sources is the same everywhere.
    tests = "tests/unit --ignore=tests/unit/test_docs.py --ignore=tests/unit/test_architecture.py"
    code, output = machine.attempt(
        "sh", "-c", f"cd /root/project && python3 -m pytest {options} {tests}", patience=INSTALL_PATIENCE
    )
    assert code == 0, output[-5000:]
    shutil.rmtree(project)
