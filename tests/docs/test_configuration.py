"""The reference of settings and the sample file say what the settings' own definitions say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ami2zammad.settings import RELOADED, Settings, load_settings
from docs import configuration

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "config" / "ami2zammad.toml"
# A key with its value, commented out or not.
_KEY = re.compile(r"(?m)^# ([a-z_]+ = .+)$")


def all_keys() -> Iterator[tuple[str, str, FieldInfo]]:
    """Give section (empty: top), key and definition of every setting."""
    for name, field in Settings.model_fields.items():
        kind: Any = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, key, inner) for key, inner in kind.model_fields.items())
        else:
            yield "", name, field


ALL_KEYS = list(all_keys())


def test_the_reference_is_what_make_docs_writes() -> None:
    text = configuration.PAGE.read_text(encoding="utf-8")
    assert text == configuration.page(text), "run: make docs"


def test_the_reference_has_every_key_with_a_variable_that_sets_it(tmp_path: Path) -> None:
    text = configuration.PAGE.read_text(encoding="utf-8")
    values = {
        "secret": "a-secret", "username": "ami2zammad", "url": "https://zammad.example.com/api/v1/cti/token",
        "country": "AT", "token": "0123456789abcdef", "instance": "pbx1",
    }  # fmt: skip
    environ = {"AMI2ZAMMAD_AGENTS": '[{"extension": "100"}]'}
    for section, key, field in ALL_KEYS:
        assert f"| `{key}` |" in text
        if section != "agents":
            variable = configuration.variable(section, key)
            assert f"| `{variable}` |" in text
            environ[variable] = values.get(key) or _as_text(field)
    settings = load_settings(_empty(tmp_path), environ=environ, secret_directories=[])
    assert (settings.instance, settings.numbers.country, len(settings.agents)) == ("pbx1", "AT", 1)


def test_the_reference_says_which_sections_sighup_reads_again() -> None:
    text = configuration.PAGE.read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## `\[+([a-z]+)\]+`$", text)
    said = {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if "SIGHUP reads it again." in body}
    assert said == RELOADED


@pytest.mark.parametrize(("section", "key", "field"), ALL_KEYS, ids=[f"{s}.{k}" for s, k, _ in ALL_KEYS])
def test_the_sample_names_every_key_with_its_true_default(section: str, key: str, field: FieldInfo) -> None:
    sample = SAMPLE.read_text(encoding="utf-8")
    shown, used = tomllib.loads(_KEY.sub(r"\1", sample)), tomllib.loads(sample)
    if section == "agents":
        assert any(key in agent for agent in shown["agents"])
        return
    there = shown[section] if section else shown
    assert key in there, f"{SAMPLE.name} lacks {section}.{key}"
    if key not in (used.get(section, {}) if section else used):
        # What has no default is shown with an example.
        default = field.examples[0] if field.default is None and field.examples else field.default
        assert there[key] == (
            list(default) if isinstance(default, tuple) else str(default) if isinstance(default, Path) else default
        )


def test_the_sample_loads_as_it_is_and_with_every_comment_taken_off(tmp_path: Path) -> None:
    sample = SAMPLE.read_text(encoding="utf-8")
    for text in (sample, _KEY.sub(r"\1", sample)):
        path = tmp_path / "ami2zammad.toml"
        path.write_text(text, encoding="utf-8")
        settings = load_settings(path, environ={}, secret_directories=[])
        assert [agent.extension for agent in settings.agents] == ["100", "101"]


def _empty(folder: Path) -> Path:
    path = folder / "empty.toml"
    path.write_text("", encoding="utf-8")
    return path


def _as_text(field: FieldInfo) -> str:
    """Return a default, or an example, as an environment variable holds it."""
    value = field.examples[0] if field.default is None and field.examples else field.default
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
