"""The settings' file as `init` writes it: every key with its comment, and only those active that differ.

Made from `settings.Settings`, so that a new setting is in it by itself. Written by hand: half of the file is comments,
with which a library for TOML would not help; the rest is texts in quotes. All of it is read back before it counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ami2zammad.settings import AgentSettings, ConfigurationError, Settings, load_settings, name_of, problems_of

Values = dict[str, Any]
"""What a TOML file holds: sections and keys."""

_HEAD: Final = """\
# Settings of ami2zammad, written by `ami2zammad init`. What is commented out is the default. This file holds two
# secrets: nobody but its owner and its group may read it. After a change: `ami2zammad check`, then restart the bridge.
#
# Every key can also come from the environment (AMI2ZAMMAD_<SECTION>__<KEY>, lists as JSON) or from a secret file.
"""
_PRIVATE: Final = 0o600
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
# Characters that TOML 1.0 forbids in a string, and some more that would spoil a line for a reader.
_ESCAPED: Final = re.compile('["\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]')


class UnreadableFileError(Exception):
    """A file that is there and cannot be read as settings; the text says why."""


def render(values: Mapping[str, Any]) -> str:
    """Return the file's text for `values`; what they lack is shown as a comment."""
    lines = [_HEAD]
    sections: list[str] = []
    for key, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            sections += ["", *_section(key, kind, values.get(key, {}))]
        elif key == "agents":
            sections += ["", *_agents(values.get(key, []))]
        else:
            lines += _setting(key, field, values)
    return "\n".join([*lines, *sections]) + "\n"


def complaint(section: str, key: str, *more: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that says what is wrong with a value for a setting (or what `more` find), empty for nothing."""

    def say(value: Any) -> str:  # noqa: ANN401 - whatever a TOML file may hold
        found = problems_of({section: {key: value}})
        own = next((problem for place, problem in found.items() if place[:2] == (section, key)), "")
        return own or next((problem for one in more if (problem := one(value))), "")

    return say


def read_values(path: Path) -> tuple[Values, list[str]]:
    """Return what a file sets, without what cannot be used, and what that was and why. Nothing if there is no file.

    Raises UnreadableFileError.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{path} is not valid TOML: {error}") from None
    return values, _drop_unusable(values)


def write(path: Path, text: str) -> Path | None:
    """Put `text` into `path`, all of it or nothing; return the backup of what was there.

    Readable by its owner only, and by the group of a folder that gives its group to what is written in it (setgid):
    that is the service's (docs/install.md). A file's owner stays. The backup is `path` with `.bak` behind it, for its
    owner only; an older one is replaced. Raises OSError, and ConfigurationError if the settings cannot be used: nothing
    has changed then.
    """
    path = path.resolve()  # what a symbolic link leads to is replaced, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, text.encode()) as new:
        try:
            load_settings(new, environ={}, secret_directories=[])
        except ConfigurationError as error:
            # The temporary file's name would puzzle.
            raise ConfigurationError([problem.replace(str(new), str(path)) for problem in error.problems]) from None
        if path.parent.stat().st_mode & stat.S_ISGID:
            new.chmod(_PRIVATE | stat.S_IRGRP)
        backup = None
        if path.exists():
            status = path.stat()
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(new, status.st_uid, status.st_gid)
            backup = path.with_name(f"{path.name}.bak")
            with _temporary(path, path.read_bytes()) as copy:
                copy.replace(backup)
        new.replace(path)
    return backup


def write_private(path: Path, text: str) -> None:
    """Put `text` into `path`, all of it or nothing, readable by its owner only. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, text.encode()) as new:
        new.replace(path)


@contextlib.contextmanager
def _temporary(beside: Path, content: bytes) -> Iterator[Path]:
    """Give a file in the same folder that nobody else can read; it is gone in the end, unless it was renamed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{beside.name}.", dir=beside.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _section(name: str, kind: type[BaseModel], values: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {_first_line(kind)}"
    yield f"[{name}]"
    for key, field in kind.model_fields.items():
        yield from _setting(key, field, values)


def _agents(agents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    fields = AgentSettings.model_fields
    yield "# One block for each agent. Without any, agents are called what the PBX calls their devices."
    for key, field in fields.items():
        yield f"# {key}: {field.description}"
    if not agents:
        yield "# [[agents]]"
        yield '# extension = "100"'
    for agent in agents:
        yield ""
        yield "[[agents]]"
        for key, field in fields.items():
            if key in agent and not _is_default(field, agent[key]):
                yield f"{key} = {_toml(agent[key])}"
            else:
                yield f'# {key} = ""'


def _setting(key: str, field: FieldInfo, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {field.description}"
    if key in values and (field.is_required() or not _is_default(field, values[key])):
        yield f"{key} = {_toml(values[key])}"
    elif field.is_required():
        yield f"# {key} ="
    else:
        shown = field.examples[0] if field.default is None and field.examples else field.default
        yield f"# {key} = {_toml(shown)}"


def _is_default(field: FieldInfo, value: object) -> bool:
    default = field.default
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and tuple(value) == default
    if isinstance(default, Path):
        return str(value) == str(default)
    # True is 1 for Python, not for a reader.
    return isinstance(value, bool) is isinstance(default, bool) and value == default


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return f'"{_ESCAPED.sub(_escape, str(value))}"'


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def _first_line(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _drop_unusable(values: Values) -> list[str]:
    """Take out what the settings would not accept; return what it was and why."""
    dropped = []
    # Two agents of one extension only become a problem when there is no other: it has no place of its own, ().
    while problems := {place: problem for place, problem in problems_of(values).items() if place}:
        marked: list[list[Any]] = []
        for place, problem in problems.items():
            dropped.append(f"{name_of(place)}: {problem}")
            _drop(values, place, marked)
        for elements in marked:
            elements[:] = [element for element in elements if element is not None]
    agents: list[dict[str, Any]] = values.get("agents", [])
    first = {agent["extension"]: agent for agent in reversed(agents)}
    twins = [agent for agent in agents if first[agent["extension"]] is not agent]
    dropped += [f"agents: extension {agent['extension']} is named more than once" for agent in twins]
    agents[:] = first.values()
    agents.reverse()
    return dropped


def _drop(values: Values, place: Sequence[str], marked: list[list[Any]]) -> None:
    """Take out what is at a place. Of a list the whole element goes: an agent without a valid extension is none.

    Elements are only set to None, and their list noted, so that the places of others still fit.
    """
    holder: Any = values
    for part, following in zip(place, (*place[1:], ""), strict=True):
        inner = holder[part]
        if isinstance(inner, dict) and following in inner:
            holder = inner
        elif isinstance(inner, list) and following.isdigit():
            inner[int(following)] = None
            marked.append(inner)
            return
        else:
            del holder[part]
            return
