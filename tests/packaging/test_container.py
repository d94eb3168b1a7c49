"""The image as the Dockerfile says, built and run by podman: read-only, without rights, one volume."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ami2zammad.sandbox.pbx import PbxSandbox
from ami2zammad.sandbox.zammad import ZammadSandbox
from tests.e2e.conftest import in_ci
from tests.packaging.conftest import ROOT, available
from tests.packaging.machine import INSTALL_PATIENCE, debian
from tests.packaging.namespaces import run, scratch, wait_until
from tests.packaging.podman import Podman, podman

pytestmark = pytest.mark.e2e

IMAGE = "localhost/ami2zammad:test"
BASE = "localhost/debian-python:test"
RECORDING = ROOT / "tests" / "recordings" / "22" / "in_answer_caller_hangs_up.ami"


def install_here(*packages: str) -> None:
    """Install Debian packages on this machine, unless they are there; where that fails, skip the test (CI: fail)."""
    if run(["dpkg-query", "--show", *packages])[0] == 0:
        return
    run(["apt-get", "update", "-q"], patience=INSTALL_PATIENCE)
    code, output = run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], patience=INSTALL_PATIENCE
    )
    if code:
        reason = f"{', '.join(packages)} cannot be installed: {output[-500:]}"
        pytest.fail(reason, pytrace=False) if in_ci() else pytest.skip(reason)


@pytest.fixture(scope="module")
def engine() -> Iterator[Podman]:
    """A podman with our image, made from a base like python:slim (that one would have to be fetched)."""
    available("13")
    install_here("podman", "crun")
    folder = Path(tempfile.mkdtemp(prefix="ami2zammad-podman-", dir=scratch()))
    try:
        with podman(folder) as engine:
            with debian("13", packages=["python3", "python3-venv", "ca-certificates"]) as machine:
                engine.take(machine, BASE)
            engine.build(ROOT, IMAGE, BASE)
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_image_says_what_it_needs(engine: Podman) -> None:
    image = json.loads(engine.run("image", "inspect", IMAGE))[0]
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert "PYTHONMALLOC=malloc" in config["Env"]
    assert (config["Entrypoint"], config["Cmd"]) == (["ami2zammad"], ["run"])
    assert list(config["Volumes"]) == ["/var/lib/ami2zammad"]
    assert image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]["Test"] == [
        "CMD", "ami2zammad", "status", "--check",
    ]  # fmt: skip


def test_the_image_decides_where_memory_comes_from(engine: Podman) -> None:
    # Python itself refuses an allocator that it does not know: so the command heeds the image's PYTHONMALLOC.
    options = ("--rm", "--cgroups=disabled", "--network=host", "--env=PYTHONMALLOC=unheard-of")
    code, said = engine.attempt("run", *options, IMAGE, "--version")
    assert (code, "PYTHONMALLOC" in said) == (1, True)


def test_the_image_adds_little_to_its_base(engine: Podman) -> None:
    size, base = (json.loads(engine.run("image", "inspect", image))[0]["Size"] for image in (IMAGE, BASE))
    # 47 MB at the time of writing, as docs/container.md says.
    assert 30e6 < size - base < 60e6


async def test_the_health_check_tells_a_bridge_that_works_from_one_that_does_not(engine: Podman) -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        settings = {"ASTERISK__USERNAME": "ami2zammad", "ASTERISK__SECRET": "sandbox", "ASTERISK__PORT": pbx.port}
        settings |= {"ZAMMAD__URL": zammad.url, "OPS__LISTEN": listen}
        variables = [f"--env=AMI2ZAMMAD_{name}={value}" for name, value in settings.items()]
        await asyncio.to_thread(engine.start, "healthy", *variables, IMAGE)
        check = ("healthcheck", "run", "healthy")
        await asyncio.to_thread(wait_until, lambda: engine.attempt(*check)[0] == 0, "it is healthy")
        await pbx.close()
        await asyncio.to_thread(wait_until, lambda: engine.attempt(*check)[0] == 1, "it is not, without Asterisk")
        await asyncio.to_thread(engine.run, "rm", "--force", "--time=0", "healthy")


async def test_a_call_goes_through_a_container_without_rights(engine: Podman) -> None:
    async with PbxSandbox() as pbx, ZammadSandbox() as zammad:
        for name, text in (("asterisk__secret", "sandbox"), ("zammad__url", zammad.url)):
            engine.run("secret", "create", f"ami2zammad_{name}", "-", stdin=text.encode())
        settings = {"ASTERISK__USERNAME": "ami2zammad", "ASTERISK__PORT": pbx.port, "CALLS__SETTLE": 1}
        settings |= {"NUMBERS__OUTBOUND_PREFIX": "0", "OPS__LISTEN": "127.0.0.1:0"}
        await asyncio.to_thread(
            engine.start,
            "bridge",
            *(f"--env=AMI2ZAMMAD_{name}={value}" for name, value in settings.items()),
            *("--secret=ami2zammad_asterisk__secret", "--secret=ami2zammad_zammad__url"),
            *("--volume=outbox:/var/lib/ami2zammad", IMAGE),
        )
        await pbx.wait_for(lambda: any(action.get("Action") == "Status" for action in pbx.actions))
        await pbx.play(RECORDING)
        await zammad.wait_for(lambda z: len(z.log) == 1 and z.log[0].state == "hangup", 60)
        assert zammad.log[0].changes == ["newCall", "answer", "hangup"]
        # It is PID 1, nobody, and can write nowhere but to its volume.
        code, output = await asyncio.to_thread(
            engine.attempt, "exec", "bridge", "sh", "-c",
            "id -u; tr '\\0' ' ' < /proc/1/cmdline; echo; grep CapEff /proc/1/status; "
            "for f in /tmp /var/tmp /opt/ami2zammad /run; do touch $f/x && echo wrote $f; done; "
            "touch /var/lib/ami2zammad/x && echo volume",
        )  # fmt: skip
        assert code == 0, output
        for line in ("10001\n", "ami2zammad run \n", "CapEff:\t0000000000000000\n", "volume\n"):
            assert line in output
        assert "wrote" not in output
        await asyncio.to_thread(engine.run, "kill", "--signal=TERM", "bridge")
        await asyncio.to_thread(wait_until, lambda: _state(engine)["Status"] == "exited", "it stops")
        assert _state(engine)["ExitCode"] == 0
    lines = [json.loads(line) for line in engine.run("logs", "bridge").splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "bridge.stopped"


def _state(engine: Podman) -> dict[str, object]:
    state: dict[str, object] = json.loads(engine.run("inspect", "bridge"))[0]["State"]
    return state
