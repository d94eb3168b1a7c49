"""What the pages say is so: links, names of settings and log events, examples, numbers; and each command has a rule."""

from __future__ import annotations

import re
import shlex
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ami2zammad.admin.replay import NO_PBX
from ami2zammad.calls.numbers import NumberPlan
from ami2zammad.settings import Settings, load_settings
from tests.docs import pages, rules
from tests.docs.pages import Block, Kind
from tests.docs.test_configuration import ALL_KEYS
from tests.docs.world import World

PAGES = pages.paths()
BLOCKS = pages.blocks()
COMMANDS = pages.commands()
LOGGED = re.compile(r"(?m)^\| `([a-z_]+\.[a-z_]+)` \|")
SVG = "{http://www.w3.org/2000/svg}"


def of_kind(*kinds: Kind) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def documented_events() -> set[str]:
    return set(LOGGED.findall((pages.ROOT / "docs" / "logs.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PAGES, ids=pages.name_of)
def test_every_link_to_a_heading_leads_to_one(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert anchor in pages.anchors(page), f"{target}#{anchor}"


@pytest.mark.parametrize("path", PAGES, ids=pages.name_of)
def test_every_setting_and_log_event_that_is_named_exists(path: Path) -> None:
    settings = {f"{section}.{key}" for section, key, _ in ALL_KEYS}
    events = documented_events()
    rooms = {name.partition(".")[0] for name in settings | events} - {""}
    for line, text in pages.code_spans(path):
        named = re.fullmatch(r"([a-z]+)\.([a-z_]+)( = .*)?", text)
        if named and named[1] in rooms and not re.search(r"\.(md|py|toml|conf|db|service|ami)$", text):
            assert f"{named[1]}.{named[2]}" in settings | events, f"{pages.name_of(path)}:{line}: {text}"


def test_the_index_lists_every_page() -> None:
    index = (pages.ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in PAGES:
        if path.parent.name == "docs" and path.name != "README.md":
            assert f"]({path.name})" in index, path.name


def test_every_block_of_code_is_of_a_known_kind() -> None:
    assert [str(block) for block in of_kind(Kind.UNKNOWN)] == []
    # A page that nothing is read from would pass every test below.
    assert len(COMMANDS) > 50
    assert len(of_kind(Kind.SETTINGS)) > 5


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_has_a_rule_and_is_proper_shell(command: pages.Command) -> None:
    rule = rules.rule_for(command)
    assert rule is not None, f"say in tests/docs/rules.py what is done with it: {command}"
    assert rule.why or rule.does, rule
    assert not rule.does or hasattr(World, rule.does), rule
    if rule.does != "synopsis":
        checked = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", of_kind(Kind.SETTINGS), ids=str)
def test_examples_of_settings_load(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "ami2zammad.toml"
    config.write_text(block.text, encoding="utf-8")
    settings = load_settings(config, environ={}, secret_directories=[], fallback=NO_PBX)
    plain = load_settings(_empty(tmp_path), environ={}, secret_directories=[], fallback=NO_PBX)
    assert settings != plain, "it sets nothing but defaults"


@pytest.mark.parametrize("block", of_kind(Kind.ENVIRONMENT), ids=str)
def test_examples_of_environments_load(block: Block, tmp_path: Path) -> None:
    environ = dict(word.split("=", 1) for word in shlex.split(block.text, comments=True))
    settings = load_settings(_empty(tmp_path), environ=environ, secret_directories=[], fallback=NO_PBX)
    for name in environ:
        section, _, key = name.removeprefix("AMI2ZAMMAD_").lower().partition("__")
        assert section in Settings.model_fields
        assert not key or key in getattr(settings, section).model_fields_set


def test_the_table_of_numbers_is_what_the_bridge_does() -> None:
    text = (pages.ROOT / "docs" / "calls.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([A-Z]{2}) \| `([^`]+)` \| `([^`]+)` \|", text)
    assert len(rows) > 15
    agents = frozenset({"100"})
    for country, written, expected in rows:
        assert NumberPlan(country=country, extensions=agents).party(written) == expected, (country, written)


def test_the_picture_can_be_read_on_a_light_and_on_a_dark_page() -> None:
    """Every text stands on a surface of the picture's own, with the contrast that WCAG 2 asks of text (4.5)."""
    picture = ET.fromstring((pages.ROOT / "docs" / "flow.svg").read_text(encoding="utf-8"))  # noqa: S314 - our own file
    surfaces = [
        ([float(rect.get(name, "0")) for name in ("x", "y", "width", "height")], rect.get("fill", ""))
        for rect in picture.iter(f"{SVG}rect")
    ]
    texts = list(picture.iter(f"{SVG}text"))
    assert texts
    for text in texts:
        x, y = float(text.get("x", "0")), float(text.get("y", "0"))
        below = [fill for (left, top, wide, high), fill in surfaces if 0 < x - left < wide and 0 < y - top < high]
        assert below, f"{text.text} stands on the page itself"
        lighter, darker = sorted((_luminance(below[-1]), _luminance(text.get("fill", ""))), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, text.text


def _luminance(colour: str) -> float:
    assert re.fullmatch(r"#[0-9a-f]{6}", colour), colour
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _empty(folder: Path) -> Path:
    path = folder / "empty.toml"
    path.write_text("", encoding="utf-8")
    return path
