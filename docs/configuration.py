"""Writes the reference of all settings into docs/configuration.md, from the settings' own definitions.

`make docs` runs it; tests/docs/test_configuration.py fails where the page is not what this writes.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ami2zammad.settings import RELOADED, Settings

PAGE: Final = Path(__file__).with_suffix(".md")

_NAMES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    SecretStr: "secret text",
    Path: "path",
}

_BEGIN: Final = (
    "<!-- What follows is written by docs/configuration.py. Change src/ami2zammad/settings.py, then: make docs -->"
)
_END: Final = "<!-- Written by hand again. -->"


def page(text: str) -> str:
    """Return the page `text` with the reference as the settings are now; ValueError if it has no place for it."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} must have these lines: {_BEGIN} … {_END}")
    return f"{before}{_BEGIN}\n{reference()}\n{_END}{after}"


def reference() -> str:
    """Return all sections with their keys."""
    top = {name: field for name, field in Settings.model_fields.items() if _model_of(field) is None}
    lines = [*_section("", "Top of the file", "Before the first section.", top)]
    for name, field in Settings.model_fields.items():
        model = _model_of(field)
        if model is not None:
            heading = f"`[[{name}]]`" if name == "agents" else f"`[{name}]`"
            lines += _section(name, heading, inspect.getdoc(model) or "", model.model_fields)
    return "\n".join(lines)


def variable(section: str, key: str) -> str:
    """Return the name of the environment variable that sets a key."""
    return f"AMI2ZAMMAD_{section.upper()}__{key.upper()}" if section else f"AMI2ZAMMAD_{key.upper()}"


def _section(name: str, heading: str, text: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield f"\n## {heading}\n"
    yield text + "\n"
    yield ("SIGHUP reads it again.\n" if name in RELOADED else "A change needs a restart.\n")
    if name == "agents":
        yield f"In the environment: all of them as a JSON list of objects, in `{variable('', name)}`.\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
    else:
        yield "| key | type | default | meaning | environment |\n|---|---|---|---|---|"
    for key, field in fields.items():
        cells = [
            f"`{key}`",
            _type(field.annotation, field.metadata),
            _default(field),
            (field.description or "").replace("|", "\\|"),
        ]
        if name != "agents":
            cells.append(f"`{variable(name, key)}`")
        yield f"| {' | '.join(cells)} |"


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field of `Settings` is, or is a list of; None for a key."""
    annotation: Any = field.annotation
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _type(annotation: Any, metadata: Iterable[Any]) -> str:  # noqa: ANN401 - whatever stands behind the colon
    """Return a key's type and what is allowed, as an administrator says it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    allowed = _allowed(metadata)
    if origin is Literal:
        return " or ".join(f"`{_toml(value)}`" for value in arguments)
    if origin is types.UnionType or origin is Union:
        return next(_type(one, metadata) for one in arguments if one is not types.NoneType)
    if origin is Annotated:
        return _type(arguments[0], [*metadata, *annotation.__metadata__])
    if origin is tuple:
        one, _, each = _type(arguments[0], []).partition(", ")
        return f"list of {one}s{', each ' if each else ''}{each}"
    return f"{_NAMES[annotation]}, {allowed}" if allowed else _NAMES[annotation]


def _allowed(metadata: Iterable[Any]) -> str:
    """Return what is allowed, such as `1 to 65535`; what is checked in other ways stands in the description."""
    low = high = words = ""
    for one in _flat(metadata):
        match one:
            case annotated_types.Ge(ge=value):
                low = f"{value} to "
            case annotated_types.Gt(gt=value):
                low = f"more than {value}, up to "
            case annotated_types.Le(le=value):
                high = str(value)
            case annotated_types.MinLen(min_length=value) if value > 1:
                words = f"{value} characters or more"
            case annotated_types.MaxLen(max_length=value):
                words = f"{value} characters at most"
            case _:
                pattern = getattr(one, "pattern", None)
                words = f"`{pattern}`" if pattern else words
    return low + high or words


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Give all constraints, those too that stand in a `Field` of an alias."""
    for one in metadata:
        if isinstance(one, FieldInfo):
            yield from one.metadata
        else:
            yield one


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be set**"
    return "none" if field.default is None else f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    """Return a value as it stands in the file."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
