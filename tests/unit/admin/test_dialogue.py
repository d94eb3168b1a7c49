"""Questions and answers."""

from __future__ import annotations

import builtins
import getpass
import io

import pytest

from ami2zammad.admin.dialogue import Dialogue, shown


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    waiting: list[str] = []

    def answer(_: str) -> str:
        return waiting.pop(0)

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr(getpass, "getpass", answer)
    return waiting


def test_enter_takes_the_default(answers: list[str]) -> None:
    answers += ["", "  other "]
    dialogue = Dialogue(interactive=True, output=io.StringIO())
    assert [dialogue.ask("Host", "127.0.0.1"), dialogue.ask("Host", "127.0.0.1")] == ["127.0.0.1", "other"]


def test_it_asks_until_the_answer_is_good(answers: list[str]) -> None:
    answers += ["x", "bad\udcff", "good"]
    output = io.StringIO()
    dialogue = Dialogue(interactive=True, output=output)
    assert dialogue.ask("Host", complaint=lambda answer: "" if answer == "good" else "must be good") == "good"
    assert output.getvalue() == "  That must be good.\n  That is no text in this terminal's encoding.\n"


def test_a_yes_or_a_no(answers: list[str]) -> None:
    answers += ["", "", "Y", "maybe", "no"]
    dialogue = Dialogue(interactive=True, output=io.StringIO())
    assert [dialogue.confirm("?", default=default) for default in (True, False, False, True)] == [
        True,
        False,
        True,
        False,
    ]


def test_secrets(answers: list[str]) -> None:
    answers += [" s3cret ", ""]
    dialogue = Dialogue(interactive=True, output=io.StringIO())
    assert [dialogue.ask_secret("Secret"), dialogue.ask_secret("Secret")] == ["s3cret", ""]


def test_with_nobody_there_the_defaults_are_taken() -> None:
    dialogue = Dialogue(interactive=False, output=io.StringIO())
    assert dialogue.ask("Host", "127.0.0.1") == "127.0.0.1"
    assert dialogue.ask_secret("Secret") == ""
    assert dialogue.confirm("Sure?", default=False) is False
    assert not dialogue.on_a_terminal


def test_foreign_text_cannot_do_anything_to_a_terminal() -> None:
    assert shown("Zoë \x1b[2J\x9b株\n") == "Zoë \ufffd[2J\ufffd株\ufffd"
