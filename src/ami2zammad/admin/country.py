"""In which country this machine is, as far as its settings tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LOCALE_VARIABLES: Final = ("LC_ALL", "LC_TELEPHONE", "LC_ADDRESS", "LANG")
_TERRITORY: Final = re.compile("[a-z]{2,3}_(?P<country>[A-Z]{2})")


def machine_country(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """Return a country in two letters; empty if nothing tells.

    The time zone goes before the locale: many a server speaks American English somewhere else.
    """
    return _of_time_zone(environ, root) or _of_locale(environ)


def _of_time_zone(environ: Mapping[str, str], root: Path) -> str:
    zone = environ.get("TZ", "").removeprefix(":")
    try:
        if not zone:
            zone = str((root / "etc/localtime").readlink()).rpartition("zoneinfo/")[2]
        table = (root / "usr/share/zoneinfo/zone.tab").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    # tzdata's table: country, coordinates, zone, remarks.
    for line in table.splitlines():
        fields = line.split("\t")
        if not line.startswith("#") and fields[2:3] == [zone]:
            return fields[0]
    return ""


def _of_locale(environ: Mapping[str, str]) -> str:
    for variable in _LOCALE_VARIABLES:
        match = _TERRITORY.match(environ.get(variable, ""))
        if match:
            return match["country"]
    return ""
