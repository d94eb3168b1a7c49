"""Who may know whom (docs/architecture.md), read off the imports."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import ami2zammad

PACKAGE = Path(ami2zammad.__file__).parent

# What each room may import; the front door (cli) may import everything.
ALLOWED = {
    "calls": set[str](),
    "asterisk": {"calls"},
    "zammad": {"calls"},
    "outbox": {"calls"},
    "control": {"calls", "asterisk"},
    "ops": set[str](),
    "settings": set[str](),
    "logs": set[str](),
    "memory": set[str](),
    "rules": {"asterisk", "zammad", "calls", "outbox", "settings", "control"},
    "listener": {"asterisk", "calls"},
    "bridge": {
        *{"asterisk", "zammad", "calls", "outbox", "control", "ops"},
        *{"settings", "logs", "memory", "rules", "listener"},
    },
    "daemon": {"zammad", "outbox", "settings", "logs", "listener", "bridge"},
    "sandbox": {"asterisk", "zammad", "calls", "bridge", "settings", "logs", "ops"},
    "admin": {"asterisk", "zammad", "calls", "outbox", "rules", "listener", "settings", "logs", "ops"},
}
FREE = {"cli", "__main__", "__init__"}


def imports_by_room() -> dict[str, set[str]]:
    """Return which rooms each room imports."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        room = inside.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            elif isinstance(node, ast.ImportFrom):
                here = ["ami2zammad", *inside.parts[:-1]]
                base = here[: len(here) - node.level + 1]
                names = [".".join([*base, node.module])] if node.module else [
                    ".".join([*base, alias.name]) for alias in node.names
                ]  # fmt: skip
            for name in names:
                parts = name.split(".")
                if parts[0] == "ami2zammad" and len(parts) > 1 and parts[1] != room and not parts[1].startswith("_"):
                    rooms[room].add(parts[1])
    return rooms


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_knows_only_whom_it_may(room: str) -> None:
    assert imports_by_room()[room] <= ALLOWED[room]


def test_every_room_has_a_rule() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - FREE <= set(ALLOWED)


def test_the_tracker_reads_no_clock_and_does_no_io() -> None:
    forbidden = {"asyncio", "time", "datetime", "random", "socket", "os", "pathlib", "logging", "structlog"}
    for path in (PACKAGE / "calls").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & forbidden, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] not in forbidden, path
