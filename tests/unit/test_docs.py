"""What the documentation lists is what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ami2zammad
from tests.faults.cells import CELLS
from tests.faults.report import PAGE, cells_of

ROOT = Path(__file__).parents[2]
PACKAGE = Path(ami2zammad.__file__).parent
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def logged_events() -> set[str]:
    """Return the names of all log events in the code."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LEVELS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                names.add(str(node.args[0].value))
    return names


def test_every_log_event_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", text, flags=re.MULTILINE))
    assert documented - {"library.log"} == logged_events()


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)


def test_the_table_of_reliability_lists_every_combination_that_is_tried_and_no_other() -> None:
    assert cells_of(PAGE.read_text(encoding="utf-8")) == list(CELLS)
