"""Where this machine is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ami2zammad.admin.country import machine_country

ZONES = """\
# tz zone descriptions
AT\t+4813+01620\tEurope/Vienna
DE\t+5230+01322\tEurope/Berlin\tmost of Germany
"""


def machine(root: Path, zone: str = "") -> Path:
    (root / "usr/share/zoneinfo").mkdir(parents=True)
    (root / "usr/share/zoneinfo/zone.tab").write_text(ZONES, encoding="utf-8")
    (root / "etc").mkdir()
    if zone:
        (root / "etc/localtime").symlink_to(f"/usr/share/zoneinfo/{zone}")
    return root


@pytest.mark.parametrize(
    ("zone", "environ", "country"),
    [
        ("Europe/Berlin", {}, "DE"),
        ("Europe/Berlin", {"LANG": "en_US.UTF-8"}, "DE"),
        ("Europe/Berlin", {"TZ": "Europe/Vienna"}, "AT"),
        ("Europe/Berlin", {"TZ": ":Europe/Vienna"}, "AT"),
        ("Etc/UTC", {"LANG": "de_CH.UTF-8"}, "CH"),
        ("Etc/UTC", {"LANG": "en_US.UTF-8", "LC_ALL": "de_AT"}, "AT"),
        ("Etc/UTC", {"LANG": "C.UTF-8"}, ""),
        ("", {"LANG": "POSIX"}, ""),
        ("", {"LANG": "de"}, ""),
    ],
)
def test_the_time_zone_tells_then_the_locale(zone: str, environ: dict[str, str], country: str, tmp_path: Path) -> None:
    assert machine_country(environ, machine(tmp_path, zone)) == country


def test_without_tzdata_the_locale_tells(tmp_path: Path) -> None:
    assert machine_country({"LANG": "fr_FR.UTF-8", "TZ": "Europe/Berlin"}, tmp_path) == "FR"
