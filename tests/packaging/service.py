"""The bridge as a service of a machine's systemd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.packaging.machine import Machine
from tests.packaging.namespaces import PATIENCE

SECRET = "sandbox"

SETTINGS = """
[asterisk]
port = {port}
username = "ami2zammad"
secret = "{secret}"

[zammad]
url = "{url}"

[numbers]
outbound_prefix = "0"

[calls]
# Long enough for a machine on which the recordings are played with delays.
settle = 1

[outbox]
path = "{outbox}"
"""


class Service:
    """`ami2zammad.service`, or one of several (`ami2zammad@pbx2.service`)."""

    def __init__(self, machine: Machine, instance: str = "") -> None:
        self._machine = machine
        self.unit = f"ami2zammad@{instance}.service" if instance else "ami2zammad.service"
        self.settings = f"/etc/ami2zammad/{instance or 'ami2zammad'}.toml"
        self.state = f"/var/lib/ami2zammad/{instance}".rstrip("/")

    def configure(self, *, port: int, url: str, secret: str = SECRET, more: str = "") -> None:
        """Write the settings, as root with an editor would."""
        text = SETTINGS.format(port=port, url=url, secret=secret, outbox=f"{self.state}/outbox.db")
        (self._machine.root / self.settings[1:]).write_text(text + more, encoding="utf-8")

    def drop_in(self, *lines: str) -> None:
        """Change settings of the unit as `systemctl edit --runtime` does; they are gone with `clean`."""
        folder = self._machine.root / "run/systemd/system" / f"{self.unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.conf").write_text("\n".join(["[Service]", *lines, ""]), encoding="utf-8")
        self._machine.run("systemctl", "daemon-reload")

    def do(self, verb: str, *options: str, patience: float = PATIENCE) -> None:
        """Let systemctl do something with it (`start`, `stop` …); that must succeed."""
        code, output = self._machine.attempt("systemctl", verb, *options, self.unit, patience=patience)
        assert code == 0, f"{output}\n{self._machine.run('journalctl', '-n', '30', '-u', self.unit)}"

    def clean(self) -> None:
        """Stop it and leave nothing of it."""
        for command in ("stop", "reset-failed", "disable"):
            self._machine.attempt("systemctl", command, self.unit)
        self._machine.run("rm", "-rf", self.settings, f"/run/systemd/system/{self.unit}.d", "/etc/credstore")
        self._machine.run("sh", "-c", f"rm -rf {self.state}/*")
        self._machine.run("systemctl", "daemon-reload")

    def get(self, name: str) -> str:
        """Return one of the properties that systemd keeps of it."""
        return self._machine.run("systemctl", "show", "--value", f"--property={name}", self.unit).strip()

    @property
    def process(self) -> Path:
        """The folder in /proc of its process, as seen from here."""
        return self._machine.root / "proc" / self.get("MainPID")

    def journal(self) -> list[dict[str, Any]]:
        """Return what the journal has of it since the machine started."""
        lines = self._machine.run("journalctl", "--boot", "--output=json", f"--unit={self.unit}").splitlines()
        return [json.loads(line) for line in lines]

    def events(self) -> list[dict[str, Any]]:
        """Return the log events that the journal has of it."""
        messages = [str(entry["MESSAGE"]) for entry in self.journal()]
        return [json.loads(message) for message in messages if message.startswith("{")]
