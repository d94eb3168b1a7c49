"""What the documentation lists is what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ami2zammad
from ami2zammad.ops.activity import DECISIONS, DIRECTIONS, KINDS, OUTCOMES, RESULTS
from ami2zammad.ops.metrics import Metrics
from ami2zammad.ops.report import Reporter
from tests.faults.cells import CELLS
from tests.faults.report import PAGE, cells_of
from tests.unit.ops.samples import WELL, Bridge, busy_activity

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


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    bridge = Bridge(WELL)
    metrics = Metrics(bridge.look, busy_activity(bridge), wall=bridge.wall)
    suffixes = {"counter": "_total", "info": "_info"}
    exposed = {}
    for family in metrics.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[family.name + suffixes.get(family.type, "")] = (family.type, labels)
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    documented = {
        name: (kind, set(re.findall(r"`([a-z]+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(ami2zammad_\w+)` \| (\w+) \|([^|]*)\|", text, flags=re.MULTILINE)
    }
    assert documented == {name: told for name, told in exposed.items() if name.startswith("ami2zammad_")}
    # What the rules ask for is there.
    asked = {name.removesuffix("_bucket") for name in re.findall(r"\b(ami2zammad_\w+)(?=[ {\[])", text)}
    assert asked <= set(documented)
    assert len(asked) > 7


def test_the_values_of_labels_are_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for value in (*KINDS, *DIRECTIONS, *OUTCOMES, *RESULTS, *DECISIONS):
        assert f"`{value}`" in text, value


def test_every_key_of_the_report_is_documented() -> None:
    bridge = Bridge(WELL)
    report = Reporter(bridge.look, busy_activity(bridge), wall=bridge.wall, clean=str).report()
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for key in keys_of(report):
        assert f"`{key}`" in text, key


def keys_of(value: object) -> set[str]:
    """Return all keys of dictionaries, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def test_the_table_of_reliability_lists_every_combination_that_is_tried_and_no_other() -> None:
    assert cells_of(PAGE.read_text(encoding="utf-8")) == list(CELLS)
