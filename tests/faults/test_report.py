"""The tables of docs/reliability.md are made of the report, and can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.cells import CELLS
from tests.faults.ledger import Tally
from tests.faults.report import Report, cells_of, put_into, tables


def test_a_report_becomes_tables_that_list_every_cell(tmp_path: Path) -> None:
    report = Report()
    for cell in CELLS[1:]:
        report.add_cell(cell, "simulated", Tally(placed=13), 1.5, "")
    report.add_trial("something else", Tally(placed=1), kills=3)
    path = tmp_path / "report" / "faults.json"
    report.write(path)
    with pytest.raises(ValueError, match=f"lacks 1 of {len(CELLS)} cells"):
        tables(json.loads(path.read_text()))
    report.add_cell(CELLS[0], "Asterisk 22", Tally(placed=13, lost=1, wrong=["it is gone"]), 1.5, "")
    report.write(path)
    text = tables(json.loads(path.read_text()))
    assert cells_of(text) == list(CELLS)
    assert f"{len(CELLS)} combinations, {13 * len(CELLS)} calls placed: 1 lost, 0 doubled, 0 left open." in text
    assert "| **13 · 1 · 0 · 0 ✗** | 13 · 0 · 0 · 0 |" in text
    assert "| something else | kills 3 | 1 | 0 | 0 | 0 |" in text


def test_nothing_tried_is_no_report(tmp_path: Path) -> None:
    Report().write(tmp_path / "faults.json")
    assert not (tmp_path / "faults.json").exists()


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = "# A\n\n<!-- measured: begin -->\nold\n<!-- measured: end -->\n\nB\n"
    assert put_into(page, "new\nlines") == page.replace("old", "new\nlines")
    with pytest.raises(ValueError, match="lacks the markers"):
        put_into("# A\n", "new")
