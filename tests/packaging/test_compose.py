"""The compose file of docs/container.md, read by a real Compose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ami2zammad.settings import Settings
from tests.packaging.conftest import ROOT, available
from tests.packaging.machine import debian


def compose_file() -> str:
    page = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_compose_file_names_settings_that_there_are() -> None:
    names = set(re.findall(r"ami2zammad_[a-z0-9_]+__[a-z0-9_]+", compose_file().lower()))
    assert len(names) >= 5
    for name in names:
        section, key = name.removeprefix("ami2zammad_").split("__")
        model = Settings.model_fields[section].annotation
        assert key in getattr(model, "model_fields", {}), name


@pytest.mark.e2e
def test_compose_accepts_the_compose_file(tmp_path: Path) -> None:
    with debian(available("12"), packages=["docker-compose"]) as machine:
        (tmp_path / "compose.yaml").write_text(compose_file(), encoding="utf-8")
        file = machine.take(tmp_path / "compose.yaml")
        resolved = machine.run("docker-compose", "--file", file, "config")
    for line in ("network_mode: service:asterisk", "read_only: true", "stop_grace_period: 30s"):
        assert line in resolved
