"""What was measured: rows, each a figure beside that of a peer in the same run, as a table and as JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 150
_BEGIN, _END = "<!-- the table of a run -->", "<!-- its end -->"


@dataclass(slots=True)
class Row:
    """One thing measured: our samples and the peer's, taken in turns; medians are compared."""

    step: str
    what: str
    unit: str
    ours: Sequence[float]
    peer: str = ""
    peers: Sequence[float] = ()
    target: str = ""
    """What is wanted, in words; empty where there is no target."""
    met: bool | None = None
    """Whether that was reached in this run."""
    note: str = ""

    @property
    def value(self) -> float:
        """Our median."""
        return statistics.median(self.ours)

    @property
    def peer_value(self) -> float | None:
        """The peer's median, None without a peer."""
        return statistics.median(self.peers) if self.peers else None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    def as_json(self) -> dict[str, Any]:
        """Return everything of it."""
        return {
            "step": self.step,
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "samples": list(self.ours),
            "peer": self.peer,
            "peer_value": self.peer_value,
            "peer_samples": list(self.peers),
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "note": self.note,
        }


@dataclass(slots=True)
class Report:
    """All rows of one run, and what could not be measured in it."""

    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What was not measured, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each step took."""

    def as_json(self) -> dict[str, Any]:
        """Return everything of it, with the machine and the date."""
        return {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "quick": self.quick,
            "rows": [row.as_json() for row in self.rows],
            "missing": self.missing,
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
        }

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def put_into(self, page: Path) -> None:
        """Replace the table of a page in Markdown, between its two comments, by this run's.

        Raises `ValueError` if the comments are not there.
        """
        before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if not begin or not end:
            raise ValueError(f"{page} has no place for the table")
        page.write_text(f"{before}{_BEGIN}\n\n{self._markdown()}\n\n{_END}{after}", encoding="utf-8")

    def _markdown(self) -> str:
        lines = [f"{self._headline()}.", "", "| | what | ami2zammad | peer | ratio | peer is | target | |"]
        lines.append("|---|---|---:|---:|---:|---|---|---|")
        lines += ["| " + " | ".join(cells) + " |" for cells in _cells(self.rows)]
        if self.missing:
            lines += ["", *(f"- not measured: {text}" for text in self.missing)]
        return "\n".join(lines)

    def _headline(self) -> str:
        where = machine()
        return (
            f"{where['processor']}, {where['cores']} cores, Python {where['python']}, "
            f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, load {where['load']}"
        )

    def show(self) -> None:
        """Print it as a table."""
        console = Console()
        if not console.is_terminal:
            console.width = max(console.width, _WIDTH)
        quick = " (quick: the figures mean nothing)" if self.quick else ""
        console.print(self._headline() + quick, markup=False)
        console.print(_table(self.rows))
        for text in self.missing:
            console.print(f"not measured: {text}", markup=False)


def _table(rows: Iterable[Row]) -> Table:
    table = Table()
    for heading in ("", "what"):
        table.add_column(heading)
    for heading in ("ami2zammad", "peer", "ratio"):
        table.add_column(heading, justify="right")
    for heading in ("peer is", "target", ""):
        table.add_column(heading)
    for cells in _cells(rows):
        table.add_row(*cells)
    return table


def _cells(rows: Iterable[Row]) -> Iterator[tuple[str, ...]]:
    before = ""
    for row in rows:
        yield (
            row.step if row.step != before else "",
            row.what,
            f"{figure(row.value)} {row.unit}",
            "" if row.peer_value is None else figure(row.peer_value),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.peer,
            row.target,
            {True: "✓", False: "✗", None: ""}[row.met],
        )
        before = row.step


def figure(value: float) -> str:
    """Return a number with three digits that count."""
    if abs(value) >= 100:  # noqa: PLR2004 -- three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 10) // 1000) - 1))]
