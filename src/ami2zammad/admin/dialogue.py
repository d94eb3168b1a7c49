"""Questions and answers on a terminal; plain text only, so that it reads the same anywhere."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import TextIO

Complaint = Callable[[str], str]
"""Says what is wrong with an answer; empty if nothing is."""


def fine(_: str) -> str:
    """Accept any answer."""
    return ""


def shown(text: str) -> str:
    """Return foreign text so that it cannot do anything to a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class Dialogue:
    """Asks, if there is somebody to ask; else every question is answered with its default.

    Questions go to standard output, all else to `output`, which mostly is the same.
    """

    def __init__(self, *, interactive: bool, output: TextIO | None = None) -> None:
        self.interactive = interactive
        self.output = output or sys.stdout

    @property
    def on_a_terminal(self) -> bool:
        """What is said is seen by a person, not kept in a file."""
        return self.output.isatty()

    def say(self, text: str = "") -> None:
        """Tell something."""
        self.output.write(f"{text}\n")
        self.output.flush()

    def ask(self, question: str, default: str = "", complaint: Complaint = fine) -> str:
        """Ask until the answer is good; Enter takes the default. Raises EOFError when the input ends."""
        while self.interactive:
            try:
                answer = input(f"{question} [{shown(default)}]: " if default else f"{question}: ").strip() or default
                answer.encode()
            except UnicodeError:
                self.say("  That is no text in this terminal's encoding.")
                continue
            problem = complaint(answer)
            if not problem:
                return answer
            self.say(f"  That {problem}.")
        return default

    def ask_secret(self, question: str) -> str:
        """Ask for what nobody may see; empty for Enter. Raises EOFError when the input ends."""
        return getpass.getpass(f"{question}: ").strip() if self.interactive else ""

    def confirm(self, question: str, *, default: bool) -> bool:
        """Ask for a yes or a no."""
        choice = "Y/n" if default else "y/N"
        while self.interactive:
            answer = input(f"{question} [{choice}]: ").strip().lower()
            if answer in {"", "y", "yes", "n", "no"}:
                return default if not answer else answer.startswith("y")
        return default
