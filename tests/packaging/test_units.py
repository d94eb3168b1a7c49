"""The units, as far as they can be judged by reading; tests/packaging/test_debian.py runs them."""

from __future__ import annotations

from pydantic import BaseModel

from ami2zammad.cli import USAGE
from ami2zammad.settings import OutboxSettings, Settings
from tests.packaging.conftest import ROOT

ONE = ROOT / "systemd" / "ami2zammad.service"
SEVERAL = ROOT / "systemd" / "ami2zammad@.service"


def lines(unit: str) -> list[tuple[str, str]]:
    """Return the settings of a unit in their order."""
    text = [line for line in unit.splitlines() if line and line[0] not in "#["]
    return [(key, value) for key, _, value in (line.partition("=") for line in text)]


def values(key: str) -> list[str]:
    return [value for name, value in lines(ONE.read_text(encoding="utf-8")) if name == key]


def test_the_template_is_the_unit_with_the_instance_in_it() -> None:
    one, several = (lines(path.read_text(encoding="utf-8")) for path in (ONE, SEVERAL))
    assert [key for key, _ in one] == [key for key, _ in several]
    different = {key for (key, value), (_, other) in zip(one, several, strict=True) if value != other}
    assert different == {"Description", "ExecStart", "ExecStartPre", "StateDirectory", "LoadCredential"}
    assert all("%i" in other for (_, value), (_, other) in zip(one, several, strict=True) if value != other)


def test_every_secret_can_be_handed_over_as_a_credential() -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    secrets = {
        f"ami2zammad_{section}__{key}"
        for section, kind in sections.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for key, field in kind.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert len(secrets) >= 3
    assert set(values("LoadCredential")) == secrets


def test_systemd_waits_longer_than_a_bridge_delivers() -> None:
    default = OutboxSettings.model_fields["shutdown_timeout"].default
    assert float(values("TimeoutStopSec")[0]) >= 2 * default


def test_unusable_settings_are_not_tried_again() -> None:
    assert values("RestartPreventExitStatus") == [str(USAGE)]
    assert values("Restart") == ["on-failure"]


def test_the_outbox_is_where_the_unit_may_write() -> None:
    path = OutboxSettings.model_fields["path"].default
    assert str(path.parent) == f"/var/lib/{values('StateDirectory')[0]}"
    assert values("ProtectSystem") == ["strict"]


def test_memory_comes_from_where_it_can_be_given_back() -> None:
    assert values("Environment") == ["PYTHONMALLOC=malloc"]
