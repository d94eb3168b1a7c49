"""What the documentation shows to be typed or copied: read out of its pages, and told apart."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

PROGRAMS = frozenset(
    {
        *("ami2zammad", "asterisk", "make", "git", "pip", "pipx", "python3", "bash", "sh", "editor"),
        *("systemctl", "journalctl", "systemd-analyze", "systemd-sysusers", "timedatectl", "apt-get", "dpkg"),
        *("docker", "podman", "curl", "jq", "ss", "df", "stat", "sqlite3", "kill", "sudo", "su"),
        *("cat", "chown", "chmod", "cp", "echo", "install", "ln", "mkdir", "mv", "rm", "touch"),
        *("/opt/ami2zammad/bin/pip", ".venv/bin/python"),
    }
)
"""With what a line begins that is a command; a line with another program is no shell block until it is named here."""

_VARIABLE = re.compile(r"AMI2ZAMMAD_[A-Z0-9_]+=('.*'|\S*)$")


class Kind(Enum):
    """What a block of code is."""

    SHELL = auto()
    SETTINGS = auto()
    ENVIRONMENT = auto()
    DIALPLAN = auto()
    DIALPLAN_INCLUDE = auto()
    MANAGER = auto()
    YAML = auto()
    DOCKERFILE = auto()
    OUTPUT = auto()
    DRAWING = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; `line` is its first line in the page, from 1."""

    page: str
    line: int
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """Something to type, from a block of code or from the midst of a text."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"

    @property
    def bare(self) -> str:
        """The command without a comment behind it."""
        return re.sub(r"\s+#\s.*$", "", self.text).strip()


def paths() -> list[Path]:
    """Return all pages, the README first: in this order a reader goes through them."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def name_of(path: Path) -> str:
    """Return how a page is called here: its path from the root of the repository."""
    return str(path.relative_to(ROOT))


@functools.cache
def tokens(path: Path) -> list[Token]:
    """Return a page as its Markdown says it (CommonMark with tables)."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks() -> list[Block]:
    """Return all blocks of code of all pages."""
    return [block for path in paths() for block in _blocks(path)]


def commands() -> list[Command]:
    """Return all commands of all pages, in the order in which a reader meets them."""
    return [command for path in paths() for command in _commands(path)]


def code_spans(path: Path) -> Iterator[tuple[int, str]]:
    """Give the line and the text of each piece of code in the midst of a page's text."""
    for token in tokens(path):
        for child in token.children or []:
            if child.type == "code_inline" and token.map is not None:
                yield token.map[0] + 1, child.content


def kind_of(text: str, info: str = "") -> Kind:
    """Return what a block of code is; `info` is the word behind its fence."""
    lines = _lines(text)
    signs = {
        Kind.YAML: info in {"yaml", "yml"} or re.match(r"[a-z_]+:\n", text) is not None,
        Kind.DOCKERFILE: text.startswith(("FROM ", "HEALTHCHECK ")),
        Kind.OUTPUT: text.startswith("Status: "),
        Kind.DRAWING: any(sign in text for sign in "►◄│─"),
        Kind.DIALPLAN: "exten =>" in text,
        Kind.DIALPLAN_INCLUDE: text.lstrip().startswith("#include"),
        Kind.MANAGER: any(line.startswith("read = ") for line in lines),
        Kind.ENVIRONMENT: all(_VARIABLE.match(line) for line in lines),
        Kind.SHELL: all(_is_command(line) for line in lines),
        Kind.SETTINGS: _is_toml(text),
    }
    return next((kind for kind, sign in signs.items() if lines and sign), Kind.UNKNOWN)


def _blocks(path: Path) -> Iterator[Block]:
    for token in tokens(path):
        if token.type in {"code_block", "fence"} and token.map is not None:
            first = token.map[0] + (2 if token.type == "fence" else 1)
            yield Block(name_of(path), first, kind_of(token.content, token.info.strip()), token.content)


def _commands(path: Path) -> Iterator[Command]:
    page = name_of(path)
    found = [
        Command(page, block.line + number, line)
        for block in _blocks(path)
        if block.kind is Kind.SHELL
        for number, line in enumerate(block.text.splitlines())
        if _lines(line)
    ]
    found += [Command(page, line, text) for line, text in code_spans(path) if " " in text and _is_command(text)]
    yield from sorted(found, key=lambda command: command.line)


def _lines(text: str) -> list[str]:
    """Return the lines that are more than a comment."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("# ")]


def _is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def _is_command(line: str) -> bool:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return False
    # Variables may come before the program.
    words = [word for word in words if not re.match(r"[A-Z0-9_]+=", word)] or words
    return bool(words) and words[0] in PROGRAMS


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and its like make them."""
    found: set[str] = set()
    page = tokens(path)
    for token, following in itertools.pairwise(page):
        if token.type == "heading_open":
            words = re.sub(r"[^\w\- ]", "", following.content.lower())
            found.add(words.replace(" ", "-"))
    return found
