"""The virtual environment with the unit, by the very commands of docs/install.md (b), on a Debian 12."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ami2zammad import __version__
from tests.packaging.conftest import ROOT, available
from tests.packaging.machine import INSTALL_PATIENCE, debian

pytestmark = pytest.mark.e2e

# This machine's own settings for reaching the package index.
FETCHING = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
CHECKOUT = ("src", "systemd", "config", "requirements", "pyproject.toml", "README.md", "LICENSE")


def commands() -> tuple[list[str], list[str]]:
    """Return the page's commands to install from a checkout (without those that need an Asterisk), and to remove."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    section = page.partition("## (b) ")[2].partition("\n## ")[0]
    install, remove = section.split("To upgrade,")
    lines = re.findall(r"^    (.+)$", install, flags=re.MULTILINE)
    left_out = ("git clone", "ami2zammad init", "ami2zammad check", "systemctl enable")
    return [line for line in lines if not line.startswith(left_out)], re.findall(r"^    (.+)$", remove, re.MULTILINE)


def test_the_documented_commands_install_a_service_that_can_run() -> None:
    install, remove = commands()
    with debian(available("12"), packages=["python3-venv", "procps", "ca-certificates"], boot=True) as machine:
        before = machine.files()
        for file in FETCHING:
            if Path("/", file).exists():
                shutil.copyfile(Path("/", file), machine.root / file)
        for name in CHECKOUT:
            source, target = ROOT / name, machine.root / "root/ami2zammad" / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        script = "\n".join(["cd /root/ami2zammad", *install])
        machine.run("sh", "-euc", script, patience=INSTALL_PATIENCE)
        assert machine.run("ami2zammad", "--version") == f"ami2zammad {__version__}\n"
        for unit in ("ami2zammad.service", "ami2zammad@.service"):
            assert machine.run("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{unit}") == ""
        # The unit's user can run it, and reads settings that root has put there.
        settings = machine.root / "etc/ami2zammad/ami2zammad.toml"
        settings.write_text("[asterisk]\nprot = 1\n", encoding="utf-8")
        assert machine.attempt("systemctl", "start", "ami2zammad")[0] == 1
        journal = machine.run("journalctl", "--unit=ami2zammad", "--output=cat")
        assert "asterisk.prot: unknown key; did you mean port?" in journal
        machine.run("sh", "-euc", "\n".join(remove))
        left = {path for path in machine.files() - before if "ami2zammad" in path and "/root/" not in path}
        assert left == set()
