"""What the trials found, as a file for programs and as tables for docs/reliability.md.

`python -m tests.faults.report` (or `make reliability`, which runs the trials first) puts the tables into the page.
"""

from __future__ import annotations

import json
import platform
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ami2zammad import __version__
from tests.e2e import rootfs
from tests.faults.cells import CELLS, AsteriskFault, BridgeFault, Cell, ZammadFault
from tests.faults.ledger import Tally

REPORT = Path("test-report") / "faults.json"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

_BEGIN = "<!-- measured: begin -->"
_END = "<!-- measured: end -->"
_COUNTS = ("placed", "lost", "doubled", "open")


class Report:
    """Collects results during a test run."""

    def __init__(self) -> None:
        self._cells: list[dict[str, Any]] = []
        self._trials: list[dict[str, Any]] = []

    def add_cell(self, cell: Cell, pbx: str, tally: Tally, seconds: float, error: str) -> None:
        """Take note of a cell of the matrix."""
        faults = {"zammad": cell.zammad.value, "asterisk": cell.asterisk.value, "bridge": cell.bridge.value}
        good = not error and not tally.wrong
        self._cells.append(
            {**faults, "pbx": pbx, **_counts(tally), "good": good, "wrong": tally.wrong, "seconds": seconds}
        )

    def add_trial(self, name: str, tally: Tally, **figures: object) -> None:
        """Take note of a trial outside of the matrix, with what else was measured."""
        self._trials.append({"name": name, **_counts(tally), "good": not tally.wrong, "figures": figures})

    def write(self, path: Path = REPORT) -> None:
        """Write the report, if there is anything to say."""
        if self._cells or self._trials:
            path.parent.mkdir(exist_ok=True)
            document = {"versions": versions(), "cells": self._cells, "trials": self._trials}
            path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _counts(tally: Tally) -> dict[str, int]:
    return {name: getattr(tally, name) for name in _COUNTS}


def versions() -> dict[str, str]:
    """Return what was tried, and when."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "ami2zammad": __version__,
        "Asterisk": _asterisk(),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }


def _asterisk() -> str:
    try:
        root = rootfs.ensure("22")
        said = subprocess.run(
            ["chroot", str(root), "/usr/sbin/asterisk", "-V"], capture_output=True, text=True, check=True
        ).stdout
    except (rootfs.RootfsUnavailable, OSError, subprocess.CalledProcessError):
        return "simulated only"
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def cells_of(page: str) -> list[Cell]:
    """Return the cells that a page's table lists, in its order."""
    columns: list[BridgeFault] = []
    cells: list[Cell] = []
    for line in page.splitlines():
        fields = [field.strip() for field in line.strip().strip("|").split("|")]
        if fields[:2] == ["Zammad", "Asterisk"]:
            columns = [BridgeFault(field) for field in fields[3:]]
        elif columns and len(fields) == len(columns) + 3 and fields[0] in set(ZammadFault):
            cells += [
                Cell(ZammadFault(fields[0]), AsteriskFault(fields[1]), column)
                for column, field in zip(columns, fields[3:], strict=True)
                if field
            ]
    return cells


def tables(document: Mapping[str, Any]) -> str:
    """Return what a report says, in Markdown. Raises ValueError if a cell is missing from it."""
    results = {(one["zammad"], one["asterisk"], one["bridge"]): one for one in document["cells"]}
    missing = [str(cell) for cell in CELLS if (cell.zammad, cell.asterisk, cell.bridge) not in results]
    if missing:
        raise ValueError(f"the report lacks {len(missing)} of {len(CELLS)} cells: {missing[:3]} …")
    total = {name: sum(one[name] for one in results.values()) for name in _COUNTS}
    said = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if name != "date")
    sums = f"{total['lost']} lost, {total['doubled']} doubled, {total['open']} left open"
    return "\n".join(
        [
            f"Measured on {document['versions']['date']} with {said}.",
            "",
            f"{len(results)} combinations, {total['placed']} calls placed: {sums}.",
            "",
            *_matrix(results),
            "",
            "| trial | figures | placed | lost | doubled | open |",
            "|---|---|---:|---:|---:|---:|",
            *(_trial(one) for one in document["trials"]),
        ]
    )


def _matrix(results: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Iterable[str]:
    yield "| Zammad | Asterisk | PBX | " + " | ".join(BridgeFault) + " |"
    yield "|---|---|---|" + "---:|" * len(BridgeFault)
    for zammad in ZammadFault:
        for asterisk in AsteriskFault:
            row = [results[zammad, asterisk, bridge] for bridge in BridgeFault]
            pbx = " / ".join(dict.fromkeys(str(one["pbx"]) for one in row))
            yield f"| {zammad} | {asterisk} | {pbx} | " + " | ".join(map(_cell, row)) + " |"


def _cell(one: Mapping[str, Any]) -> str:
    counts = " · ".join(str(one[name]) for name in _COUNTS)
    return counts if one["good"] else f"**{counts} ✗**"


def _trial(one: Mapping[str, Any]) -> str:
    figures = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in one["figures"].items())
    return f"| {one['name']} | {figures} | " + " | ".join(str(one[name]) for name in _COUNTS) + " |"


def put_into(page: str, measured: str) -> str:
    """Return a page with other measurements between its markers. Raises ValueError if it has none."""
    head, begin, rest = page.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks the markers {_BEGIN} and {_END}")
    return f"{head}{begin}\n{measured}\n{end}{tail}"


def main() -> int:
    """Put the latest report into the page."""
    try:
        document = json.loads(REPORT.read_text(encoding="utf-8"))
        page = put_into(PAGE.read_text(encoding="utf-8"), tables(document))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
